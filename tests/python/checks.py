"""What the tests of this folder share: checks that are counted, errors that are expected."""
failures = 0


def check(name, body):
    """Runs one check; body returns None, or the reason why it does not apply."""
    global failures
    try:
        reason = body()
    except Exception as error:  # a failed check must not hide the others
        failures += 1
        print(f"FAIL {name}: {type(error).__name__}: {str(error).strip()[:2000]}", flush=True)
        return
    print(f"SKIP {name}: {reason}" if reason else f"PASS {name}", flush=True)


def expect_error(words, call, kind=RuntimeError):
    try:
        call()
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
        return
    raise AssertionError(f"no {kind.__name__}")


def finish():
    """The exit code, after a last line."""
    print("FAILED" if failures else "all passed", f"({failures} failures)" if failures else "")
    return 1 if failures else 0
