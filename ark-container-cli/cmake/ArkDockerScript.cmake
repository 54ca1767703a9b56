# Common functions of the scripts that run during a build.

# Prints an error and its help. The calling script then returns without writing its last file, which fails the build.
function(print_failure text help)
  message(NOTICE "error: ${text}\n  help: ${help}")
endfunction()

# Creates a folder. Ends the script with a fatal error if the folder is not writable, since then an old output file
# could not be removed.
function(make_writable_folder folder)
  set(result 0)
  if(NOT IS_DIRECTORY "${folder}")
    execute_process(COMMAND "${CMAKE_COMMAND}" -E make_directory "${folder}" OUTPUT_QUIET ERROR_QUIET)
  endif()
  # Concurrent scripts write to the same folder.
  string(RANDOM LENGTH 12 name)
  file(COPY_FILE "${CMAKE_CURRENT_LIST_FILE}" "${folder}/.written-${name}" RESULT result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR " error: cannot write to ${folder}: ${result}\n"
                        "   help: build in a folder that you own: cmake -B DIR")
  endif()
  file(REMOVE "${folder}/.written-${name}")
endfunction()

# Writes a file if its content differs.
function(write_if_different file content)
  set(old)
  if(EXISTS "${file}")
    file(READ "${file}" old)
  endif()
  if(NOT EXISTS "${file}" OR NOT old STREQUAL content)
    write_whole("${file}" "${content}")
  endif()
endfunction()

# Writes a file atomically.
function(write_whole file content)
  file(WRITE "${file}.new" "${content}")
  file(RENAME "${file}.new" "${file}")
endfunction()
