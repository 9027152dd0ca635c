// comba completion: a script that lets a shell complete commands, options and their choices, made from the parser itself.
#include "tools/commands.h"

#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace comba::tools {
namespace {

// What may stand in one place: words, files, or (neither) something that nobody can guess, a number for one.
struct Offer {
  std::vector<std::string> words = {};
  bool files = false;
};

struct LongOption {
  std::string name, help;  // name: with its dashes
  bool takes_value = false;
  Offer value = {};
};

struct Command {
  std::string path, help;  // path: "comba data pack"
  std::vector<const CLI::App*> verbs;
  std::vector<LongOption> options = {};
  Offer operand = {};  // of its positional arguments; verbs are not in it
};

// CLI11 shows a type and its checks as "TEXT", "INT:INT in [1 - 8]" or, by IsMember, "TEXT:{auto,raw,ema}".
Offer offer_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}', open);
  if (open == std::string::npos || close == std::string::npos) {
    return {.files = type == "TEXT"};
  }
  return {.words = CLI::detail::split(type.substr(open + 1, close - open - 1), ',')};
}

void collect(const CLI::App& app, const std::string& path, std::vector<Command>& commands) {
  Command command{.path = path,
                  .help = app.get_description(),
                  .verbs = app.get_subcommands([](const CLI::App*) { return true; })};
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      const Offer offer = offer_of(*option);
      command.operand.files |= offer.files;
      command.operand.words.insert(command.operand.words.end(), offer.words.begin(),
                                   offer.words.end());
    }
    for (const std::string& name : option->get_lnames()) {
      const bool takes_value = option->get_items_expected_max() > 0;
      command.options.push_back({.name = "--" + name,
                                 .help = option->get_description(),
                                 .takes_value = takes_value,
                                 .value = takes_value ? offer_of(*option) : Offer()});
    }
  }
  commands.push_back(command);
  for (const CLI::App* verb : command.verbs) {
    collect(*verb, path + " " + verb->get_name(), commands);
  }
}

std::vector<std::string> names_of(const std::vector<const CLI::App*>& verbs) {
  std::vector<std::string> names;
  for (const CLI::App* verb : verbs) {
    names.push_back(verb->get_name());
  }
  return names;
}

// The value of `offers` in the scripts.
std::string assignment(const Offer& offer) {
  return fmt::format("offers='{}'",
                     offer.files ? "files" : fmt::format("{}", fmt::join(offer.words, " ")));
}

// Finds the command that is being typed: words are taken as long as they name one.
void print_command_search(const std::vector<Command>& commands) {
  std::cout << "# Adds a word to $command if that is a command too.\n"
               "_comba_descend() {\n"
               "  case \"$command $1\" in\n    ";
  for (size_t i = 1; i < commands.size(); ++i) {
    std::cout << fmt::format("{}'{}'", i > 1 ? "|" : "", commands[i].path);
  }
  std::cout << ") command=\"$command $1\" ;;\n  esac\n}\n\n";
}

// Bash and zsh read the same tables: what may follow an option, begin with a dash, or stand alone.
void print_tables(const std::vector<Command>& commands) {
  std::map<std::string, std::string> values;  // what is offered: behind which options
  for (const Command& command : commands) {
    for (const LongOption& option : command.options) {
      if (option.takes_value) {
        std::string& places = values[assignment(option.value)];
        places += fmt::format("{}'{} {}'", places.empty() ? "" : "|", command.path, option.name);
      }
    }
  }
  std::cout << "# Sets $offers for a word behind another one in $command: words, or \"files\".\n"
               "_comba_offers() {\n"
               "  local word=\"$1\" previous=\"$2\"\n"
               "  case \"$command $previous\" in\n";
  for (const auto& [offered, places] : values) {
    std::cout << fmt::format("    {}) {}; return ;;\n", places, offered);
  }
  std::cout << "  esac\n  case \"$command $word\" in\n";
  for (const Command& command : commands) {
    std::vector<std::string> options;
    for (const LongOption& option : command.options) {
      options.push_back(option.name);
    }
    std::cout << fmt::format("    '{} -'*) {} ;;\n", command.path, assignment({.words = options}));
  }
  std::cout << "    *) case \"$command\" in\n";
  for (const Command& command : commands) {
    const Offer offer =
        command.verbs.empty() ? command.operand : Offer{.words = names_of(command.verbs)};
    std::cout << fmt::format("      '{}') {} ;;\n", command.path, assignment(offer));
  }
  std::cout << "    esac ;;\n  esac\n}\n\n";
}

void print_bash(const std::vector<Command>& commands) {
  std::cout
      << "# Completion of comba in bash.  Now: source <(comba completion bash)\n"
         "# Always: comba completion bash > ~/.local/share/bash-completion/completions/comba\n\n";
  print_command_search(commands);
  print_tables(commands);
  std::cout << R"(_comba() {
  local word="${COMP_WORDS[COMP_CWORD]}" command=comba offers= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    _comba_descend "${COMP_WORDS[i]}"
  done
  _comba_offers "$word" "${COMP_WORDS[COMP_CWORD - 1]}"
  if [ "$offers" = files ]; then
    COMPREPLY=()
    compopt -o default  # files as readline completes them: ~, blanks
  else
    mapfile -t COMPREPLY < <(compgen -W "$offers" -- "$word")
  fi
}
complete -F _comba comba
)";
}

void print_zsh(const std::vector<Command>& commands) {
  std::cout
      << "#compdef comba\n"
         "# Completion of comba in zsh.  Now, behind compinit: source <(comba completion zsh)\n"
         "# Always: comba completion zsh > DIR/_comba, where DIR is one of $fpath.\n\n";
  print_command_search(commands);
  print_tables(commands);
  std::cout << R"(_comba() {
  local command=comba offers= i
  for ((i = 2; i < CURRENT; i++)); do
    _comba_descend "${words[i]}"
  done
  _comba_offers "${words[CURRENT]}" "${words[CURRENT - 1]}"
  if [[ $offers == files ]]; then
    _files
  else
    compadd -- ${=offers}
  fi
}
if [[ $funcstack[1] == _comba ]]; then
  _comba "$@"
else
  compdef _comba comba
fi
)";
}

// Within single quotes of fish.
std::string quoted(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    escaped += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  }
  return "'" + escaped + "'";
}

void print_fish(const std::vector<Command>& commands) {
  std::cout << "# Completion of comba in fish.  Now: comba completion fish | source\n"
               "# Always: comba completion fish > ~/.config/fish/completions/comba.fish\n\n"
               "set -g __comba_commands";
  for (const Command& command : commands) {
    std::cout << " " << quoted(command.path);
  }
  std::cout << R"(

# Whether this command is being typed: words are taken as long as they name one.
function __comba_at
    set -l command comba
    for word in (commandline -opc)[2..-1]
        if contains -- "$command $word" $__comba_commands
            set command "$command $word"
        end
    end
    test "$command" = "$argv"
end

complete -c comba -f
)";
  for (const Command& command : commands) {
    const std::string here =
        fmt::format("complete -c comba -n {}", quoted("__comba_at " + command.path));
    for (const CLI::App* verb : command.verbs) {
      std::cout << fmt::format("{} -a {} -d {}\n", here, verb->get_name(),
                               quoted(verb->get_description()));
    }
    for (const LongOption& option : command.options) {
      const Offer& value = option.value;
      std::cout << fmt::format(
          "{} -l {} -d {}{}{}\n", here, option.name.substr(2), quoted(option.help),
          !option.takes_value ? ""
          : value.files       ? " -rF"
                              : " -x",
          value.words.empty() ? "" : fmt::format(" -a '{}'", fmt::join(value.words, " ")));
    }
    if (command.operand.files) {
      std::cout << here << " -F\n";
    } else if (!command.operand.words.empty()) {
      std::cout << fmt::format("{} -a '{}'\n", here, fmt::join(command.operand.words, " "));
    }
  }
}

}  // namespace

void add_completion_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "completion", "Print a script that lets a shell complete commands and options");
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "The script says where it goes. In this shell only: source <(comba completion bash), "
      "comba completion fish | source");
  command->callback([shell, &app] {
    std::vector<Command> commands;
    collect(app, "comba", commands);
    *shell == "bash"  ? print_bash(commands)
    : *shell == "zsh" ? print_zsh(commands)
                      : print_fish(commands);
  });
}

}  // namespace comba::tools
