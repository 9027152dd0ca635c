# Shared target settings: C++20, warnings, sanitizers, ccache.
include(GNUInstallDirs)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")

find_program(COMBA_CCACHE ccache)
if(COMBA_CCACHE)
  # Paths below the root count as relative, so that clones share what they compiled.
  set(COMBA_CCACHE_LAUNCHER "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}"
      CCACHE_NOHASHDIR=1 "${COMBA_CCACHE}")
  set(CMAKE_CXX_COMPILER_LAUNCHER ${COMBA_CCACHE_LAUNCHER})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${COMBA_CCACHE_LAUNCHER})
endif()

# Flags every target of ours gets; third-party headers arrive as SYSTEM and stay silent.
add_library(comba_flags INTERFACE)
target_include_directories(comba_flags INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(comba_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow $<$<BOOL:${COMBA_WERROR}>:-Werror>>)
if(COMBA_SANITIZE)
  target_compile_options(comba_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${COMBA_SANITIZE} -fno-omit-frame-pointer -g>)
  target_link_options(comba_flags INTERFACE -fsanitize=${COMBA_SANITIZE})
endif()

# comba_library(NAME [KIND STATIC|OBJECT|SHARED] SOURCES ... [DEPS ...]): installed unless it is an OBJECT library.
function(comba_library name)
  cmake_parse_arguments(ARG "" "KIND" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_KIND)
    set(ARG_KIND STATIC)
  endif()
  add_library(${name} ${ARG_KIND} ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC $<BUILD_INTERFACE:comba_flags> ${ARG_DEPS})
  if(NOT ARG_KIND STREQUAL OBJECT)
    comba_exported(${name})
    set_property(GLOBAL APPEND PROPERTY COMBA_LIBRARIES ${name})
  endif()
endfunction()

# comba_exported(TARGET): comba_x is Comba::x in the installed package, its headers are below include/comba.
function(comba_exported target)
  string(REGEX REPLACE "^comba_" "" name ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/comba>)
  target_compile_features(${target} INTERFACE $<INSTALL_INTERFACE:cxx_std_20>)
endfunction()

# comba_test(NAME SOURCES ... DEPS ... [LABELS ...]): one GoogleTest executable, one ctest entry per test.
function(comba_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE COMBA_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
    COMBA_BINARY_DIR="${PROJECT_BINARY_DIR}")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 600)
endfunction()
