# What the scripts have in common that run while a project is built.

# Ends the script that calls it, with what failed and what to type next. The script has not written
# its last file then, by which the build knows that it failed.
macro(fail text help)
  message(NOTICE "error: ${text}\n  help: ${help}")
  return()
endmacro()

# Writes a file whole or not at all, and only where its content differs.
function(write_if_different file content)
  set(old)
  if(EXISTS "${file}")
    file(READ "${file}" old)
  endif()
  if(NOT EXISTS "${file}" OR NOT old STREQUAL content)
    write_whole("${file}" "${content}")
  endif()
endfunction()

function(write_whole file content)
  file(WRITE "${file}.new" "${content}")
  file(RENAME "${file}.new" "${file}")
endfunction()
