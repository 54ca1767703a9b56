# What the scripts have in common that run while a project is built.

# Tells what failed and what to type next. The script that calls it returns then and has not written its
# last file, by which the build knows that it failed.
function(tell_failure text help)
  message(NOTICE "error: ${text}\n  help: ${help}")
endfunction()

# Creates a folder. Ends the script with an error of CMake's own if nothing can be written there: not even
# what is looked for could be removed.
function(make_writable_folder folder)
  set(result 0)
  if(NOT IS_DIRECTORY "${folder}")
    execute_process(COMMAND "${CMAKE_COMMAND}" -E make_directory "${folder}" OUTPUT_QUIET ERROR_QUIET)
  endif()
  # Scripts that run at once write to one folder.
  string(RANDOM LENGTH 12 name)
  file(COPY_FILE "${CMAKE_CURRENT_LIST_FILE}" "${folder}/.written-${name}" RESULT result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR " error: nothing can be written to ${folder}: ${result}\n"
                        "   help: build in a folder that is yours: cmake -B DIR")
  endif()
  file(REMOVE "${folder}/.written-${name}")
endfunction()

# Writes a file, if its content differs.
function(write_if_different file content)
  set(old)
  if(EXISTS "${file}")
    file(READ "${file}" old)
  endif()
  if(NOT EXISTS "${file}" OR NOT old STREQUAL content)
    write_whole("${file}" "${content}")
  endif()
endfunction()

# Writes a file whole or not at all.
function(write_whole file content)
  file(WRITE "${file}.new" "${content}")
  file(RENAME "${file}.new" "${file}")
endfunction()
