# cmake --install: the program, the libraries with their headers, find_package(Comba), configurations, shipped weights,
# completion of commands.
include(CMakePackageConfigHelpers)
set(package "${CMAKE_INSTALL_LIBDIR}/cmake/Comba")
set(shared "${CMAKE_INSTALL_DATADIR}/comba")

# Sources include their headers from the root of the tree, and so do those who use the package. How each device computes
# the kernels stays inside.
foreach(folder IN LISTS COMBA_FOLDERS)
  if(NOT folder MATCHES "^(tests|tools)$")
    install(DIRECTORY ${folder}/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/comba/${folder}"
      FILES_MATCHING PATTERN "*.h" REGEX "/(autograd|cpu|cuda|meta|weights|samples)$" EXCLUDE)
  endif()
endforeach()

get_property(libraries GLOBAL PROPERTY COMBA_LIBRARIES)
set(loaded comba_imgcodecs comba_video)  # by the program, when it needs them; nobody links them
if(COMBA_TORCH)
  list(APPEND libraries comba_ops)
  list(APPEND loaded comba)
endif()
install(TARGETS ${libraries} EXPORT CombaTargets)
install(EXPORT CombaTargets NAMESPACE Comba:: DESTINATION "${package}")
install(TARGETS ${loaded})

# What is installed finds our libraries wherever it is moved, and those of others where they were when it was built. The
# build tree has the same paths, or CMake would keep room for longer ones by empty entries, which mean the current folder.
file(RELATIVE_PATH bin_to_lib "/${CMAKE_INSTALL_BINDIR}" "/${CMAKE_INSTALL_LIBDIR}")
foreach(target IN LISTS libraries loaded)
  get_target_property(type ${target} TYPE)
  if(type MATCHES "EXECUTABLE|SHARED_LIBRARY")
    set(own "$ORIGIN/${bin_to_lib}")
    if(type STREQUAL SHARED_LIBRARY)
      set(own "$ORIGIN")
    endif()
    set_target_properties(${target} PROPERTIES INSTALL_RPATH "${own}" INSTALL_RPATH_USE_LINK_PATH ON
      BUILD_WITH_INSTALL_RPATH ON)
  endif()
endforeach()

string(REGEX MATCH "^[0-9]+\\.[0-9]+" COMBA_TORCH_RELEASE "${Torch_VERSION}")
configure_package_config_file(tools/cmake/CombaConfig.cmake.in "${PROJECT_BINARY_DIR}/CombaConfig.cmake"
  INSTALL_DESTINATION "${package}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/CombaConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/CombaConfig.cmake" "${PROJECT_BINARY_DIR}/CombaConfigVersion.cmake"
  tools/cmake/CombaTorch.cmake tools/cmake/Findlibzip.cmake DESTINATION "${package}")

# What the installed program says to `comba completion SHELL`, where shells look for it. A program for another machine cannot
# be asked.
if(COMBA_TORCH AND NOT CMAKE_CROSSCOMPILING)
  function(install_completion shell folder name)
    set(script "${PROJECT_BINARY_DIR}/completion/${folder}/${name}")
    get_filename_component(made "${script}" DIRECTORY)
    install(CODE "
      file(MAKE_DIRECTORY \"${made}\")
      execute_process(COMMAND \"$<TARGET_FILE:comba>\" completion ${shell} OUTPUT_FILE \"${script}\" RESULT_VARIABLE code)
      if(NOT code EQUAL 0)
        message(FATAL_ERROR \"comba completion ${shell} ended with \${code}\")
      endif()" COMPONENT completion)
    install(FILES "${script}" DESTINATION "${CMAKE_INSTALL_DATADIR}/${folder}" COMPONENT completion)
  endfunction()
  install_completion(bash bash-completion/completions comba)
  install_completion(zsh zsh/site-functions _comba)
  install_completion(fish fish/vendor_completions.d comba.fish)
endif()

install(DIRECTORY configs DESTINATION "${shared}")
install(DIRECTORY tracking/weights DESTINATION "${shared}/tracking")
install(FILES LICENSE README.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")
