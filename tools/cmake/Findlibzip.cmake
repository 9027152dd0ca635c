# libzip::zip. libzip's own package file wants command-line tools that its -dev package does not install.
include(FindPackageHandleStandardArgs)
find_path(ZIP_INCLUDE_DIR zip.h)
find_library(ZIP_LIBRARY NAMES zip)
find_package_handle_standard_args(libzip REQUIRED_VARS ZIP_LIBRARY ZIP_INCLUDE_DIR)
if(libzip_FOUND AND NOT TARGET libzip::zip)
  add_library(libzip::zip UNKNOWN IMPORTED GLOBAL)
  set_target_properties(libzip::zip PROPERTIES IMPORTED_LOCATION "${ZIP_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${ZIP_INCLUDE_DIR}")
endif()
