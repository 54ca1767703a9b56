# Checks the arguments of ark_add_docker, and converts them for its commands.
#
# Macros read the ARG_… variables of the function, and set variables in the function.

# Ends the configuration. CMake does not reformat lines that start with a space.
function(_ark_docker_error text help)
  message(FATAL_ERROR " error: ark_add_docker(${name}): ${text}\n   help: ${help}")
endfunction()

macro(_ark_docker_check_arguments)
  if(NOT name MATCHES "^[A-Za-z0-9_.+-]+$")
    _ark_docker_error("\"${name}\" cannot be part of a target's name"
                      "use letters, digits, '_', '.', '+' and '-', such as ark-extract-catalog-video")
  endif()
  if(TARGET ${name}-docker)
    get_target_property(other ${name}-docker SOURCE_DIR)
    _ark_docker_error("an image of this name is already defined in ${other}" "give each image a different name")
  endif()
  if(ARG_UNPARSED_ARGUMENTS)
    list(GET ARG_UNPARSED_ARGUMENTS 0 unknown)
    _ark_docker_error("\"${unknown}\" is not a keyword"
                      "the keywords: ORGANIZATION, REPOSITORY, DOCKERFILE, TARGETS, FILES, TAGS, BUILD_ARGS, PLATFORMS, REGISTRY, CREATE")
  endif()
  if(ARG_KEYWORDS_MISSING_VALUES)
    list(GET ARG_KEYWORDS_MISSING_VALUES 0 keyword)
    # Lists of files may be empty, for example from a variable.
    if(keyword MATCHES "^(ORGANIZATION|REPOSITORY|DOCKERFILE|REGISTRY)$")
      _ark_docker_error("${keyword} has no value" "give a value after ${keyword}, or omit ${keyword}")
    endif()
  endif()
  _ark_docker_check_repository()
  _ark_docker_check_tags()
  foreach(platform IN LISTS ARG_PLATFORMS)
    if(NOT platform MATCHES "^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?$")
      _ark_docker_error("\"${platform}\" is not a platform" "for example: PLATFORMS linux/amd64 linux/arm64")
    endif()
  endforeach()
  foreach(argument IN LISTS ARG_BUILD_ARGS)
    if(NOT argument MATCHES "^[A-Za-z_][A-Za-z0-9_]*=")
      _ark_docker_error("the build argument \"${argument}\" is not of the form KEY=VALUE"
                        "for example: BUILD_ARGS VERSION=1.2")
    endif()
  endforeach()
  if(NOT ARK_DOCKER_BUILDER MATCHES "^(docker|podman|buildah|)$")
    _ark_docker_error("ARK_DOCKER_BUILDER is \"${ARK_DOCKER_BUILDER}\", which is not a builder"
                      "use docker, podman or buildah, or the first that works: cmake -DARK_DOCKER_BUILDER= .")
  endif()
  if(EXISTS "${CMAKE_CURRENT_BINARY_DIR}/${name}-docker" AND NOT IS_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/${name}-docker")
    _ark_docker_error("${CMAKE_CURRENT_BINARY_DIR}/${name}-docker is not a folder" "remove it, or build in another folder: cmake -B DIR")
  endif()
  if(NOT EXISTS "${ARK_CONTAINER_TOOL}")
    _ark_docker_error("the tool ${ARK_CONTAINER_TOOL} does not exist" "cmake -DARK_CONTAINER_TOOL=FILE .")
  endif()
endmacro()

macro(_ark_docker_check_repository)
  foreach(keyword IN ITEMS ORGANIZATION REPOSITORY)
    if(NOT DEFINED ARG_${keyword})
      _ark_docker_error("${keyword} is missing"
                        "ark_add_docker(${name} ORGANIZATION GUID REPOSITORY catalog/extract-video)")
    endif()
  endforeach()
  set(hex "[0-9A-Fa-f]")
  string(REPEAT "${hex}" 4 four)
  if(NOT ARG_ORGANIZATION MATCHES "^${four}${four}-${four}-${four}-${four}-${four}${four}${four}$")
    _ark_docker_error("\"${ARG_ORGANIZATION}\" is not the GUID of an organization: expected 32 hexadecimal digits as 8-4-4-4-12"
                      "your organizations: ${ARK_CONTAINER_TOOL} --whoami")
  endif()
  set(part "[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*")
  if(NOT ARG_REPOSITORY MATCHES "^${part}(/${part})*$")
    _ark_docker_error("\"${ARG_REPOSITORY}\" is not a repository name"
                      "use lower-case words separated by slashes, such as catalog/extract-video; give tags after TAGS")
  endif()
  if(NOT DEFINED ARG_REGISTRY)
    set(ARG_REGISTRY "${ARK_REGISTRY}")
  endif()
endmacro()

macro(_ark_docker_check_tags)
  foreach(tag IN LISTS ARG_TAGS)
    string(LENGTH "${tag}" length)
    # The tool checks tags that are generator expressions.
    if(NOT tag MATCHES "\\$<" AND (length GREATER 128 OR NOT tag MATCHES "^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))
      _ark_docker_error("\"${tag}\" is not a tag" "use up to 128 letters, digits, '_', '.' and '-', such as v1.2")
    endif()
  endforeach()
  list(REMOVE_DUPLICATES ARG_TAGS)
  if("${ARG_TAGS}" STREQUAL latest)
    _ark_docker_error("the tag latest alone does not identify an image"
                      "add another tag, such as TAGS v1.2 latest, or omit TAGS to use the output of git describe")
  endif()
endmacro()

# Sets `dockerfile`.
macro(_ark_docker_find_dockerfile)
  if(NOT DEFINED ARG_DOCKERFILE)
    set(ARG_DOCKERFILE Dockerfile)
  endif()
  _ark_docker_locate(ARG_DOCKERFILE)
  if(NOT located)
    _ark_docker_error("the Dockerfile ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_DOCKERFILE} does not exist"
                      "create it, or name another: DOCKERFILE FILE")
  endif()
  set(dockerfile "${located}")
endmacro()

# Sets `context_files`, their `context_names`, and `context_dependencies`.
macro(_ark_docker_collect_context)
  set(context_files)
  set(context_names)
  set(context_dependencies)
  foreach(target IN LISTS ARG_TARGETS)
    if(NOT TARGET ${target})
      _ark_docker_error("the target ${target} does not exist"
                        "TARGETS takes targets that are already defined; give existing files after FILES")
    endif()
    get_target_property(type ${target} TYPE)
    list(APPEND context_dependencies ${target})
    if(type MATCHES "^(EXECUTABLE|STATIC_LIBRARY|SHARED_LIBRARY|MODULE_LIBRARY)$")
      list(APPEND context_dependencies "$<TARGET_FILE:${target}>")
      list(APPEND context_files "$<TARGET_FILE:${target}>")
      list(APPEND context_names "$<TARGET_FILE_NAME:${target}>")
    elseif(NOT type STREQUAL UTILITY)
      # A custom target is built first, and its files are named after FILES.
      _ark_docker_error("the target ${target} has no file"
                        "TARGETS takes executables, libraries and custom targets")
    endif()
  endforeach()
  foreach(file IN LISTS ARG_FILES)
    _ark_docker_locate(file)
    if(NOT located)
      _ark_docker_error("the file ${file} is neither in ${CMAKE_CURRENT_SOURCE_DIR} nor generated by a custom command of this folder"
                        "correct its name after FILES")
    endif()
    set(files "${located}")
    set(base "${located_in}")
    if(IS_DIRECTORY "${located}")
      file(GLOB_RECURSE files LIST_DIRECTORIES false CONFIGURE_DEPENDS "${located}/*")
      if(NOT base)
        get_filename_component(base "${located}" DIRECTORY)
      endif()
    endif()
    foreach(file IN LISTS files)
      if(base)
        file(RELATIVE_PATH inside "${base}" "${file}")
      else()
        get_filename_component(inside "${file}" NAME)
      endif()
      list(APPEND context_files "${file}")
      list(APPEND context_names "${inside}")
      list(APPEND context_dependencies "${file}")
    endforeach()
  endforeach()
endmacro()

# Sets `located` to the path of the file in `variable`, which may be generated later, and `located_in` to its folder:
# the source folder or the build folder. Both are empty if the file does not exist.
macro(_ark_docker_locate variable)
  set(located)
  set(located_in)
  foreach(folder IN ITEMS "${CMAKE_CURRENT_SOURCE_DIR}" "${CMAKE_CURRENT_BINARY_DIR}")
    get_filename_component(path "${${variable}}" ABSOLUTE BASE_DIR "${folder}")
    get_source_file_property(is_generated "${path}" GENERATED)
    if(NOT located AND (EXISTS "${path}" OR is_generated))
      set(located "${path}")
    endif()
  endforeach()
  # If one folder contains the other, the inner folder is used.
  foreach(folder IN ITEMS "${CMAKE_CURRENT_SOURCE_DIR}" "${CMAKE_CURRENT_BINARY_DIR}")
    string(FIND "${located}/" "${folder}/" position)
    string(LENGTH "${folder}" length)
    string(LENGTH "${located_in}" longest)
    if(position EQUAL 0 AND length GREATER longest)
      set(located_in "${folder}")
    endif()
  endforeach()
endmacro()

# Sets the default of ARG_PLATFORMS: the platform of a cross build.
macro(_ark_docker_choose_platforms)
  if(NOT ARG_PLATFORMS)
    set(ARG_PLATFORMS "${ARK_DOCKER_PLATFORM}")
    if(NOT ARG_PLATFORMS AND CMAKE_CROSSCOMPILING AND CMAKE_SYSTEM_NAME STREQUAL Linux)
      set(processors x86_64 AMD64 aarch64 arm64 armv7l armv7-a ppc64le s390x riscv64 i686)
      set(platforms amd64 amd64 arm64 arm64 arm/v7 arm/v7 ppc64le s390x riscv64 386)
      list(FIND processors "${CMAKE_SYSTEM_PROCESSOR}" index)
      if(NOT index EQUAL -1)
        list(GET platforms ${index} platform)
        set(ARG_PLATFORMS "linux/${platform}")
      endif()
    endif()
  endif()
  list(REMOVE_DUPLICATES ARG_PLATFORMS)
endmacro()

# Without TAGS, sets `commit_file`, the file with the output of git describe, and `commit_target`, the target that
# updates the file. All images of a work tree share both.
macro(_ark_docker_describe_commit)
  set(commit_file)
  set(commit_target)
  if(NOT ARG_TAGS)
    find_package(Git QUIET)
    if(NOT GIT_FOUND)
      _ark_docker_error("git is not installed, and is needed for the default tag"
                        "install git, or give tags: TAGS v1.2")
    endif()
    execute_process(
      COMMAND "${GIT_EXECUTABLE}" -C "${CMAKE_CURRENT_SOURCE_DIR}" rev-parse --show-toplevel --verify HEAD
      OUTPUT_VARIABLE worktree ERROR_VARIABLE problem RESULT_VARIABLE code
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
    if(NOT code EQUAL 0)
      set(remedy "commit it, or give tags: TAGS v1.2")
      if(problem MATCHES "git config [^\n]+")
        # The message of git has the command.
        set(remedy "give tags: TAGS v1.2; or trust the folder: ${CMAKE_MATCH_0}")
      endif()
      string(REGEX REPLACE "\n.*" "" problem "${problem}")
      _ark_docker_error("git finds no commit of ${CMAKE_CURRENT_SOURCE_DIR} for the default tag: ${problem}"
                        "${remedy}")
    endif()
    string(REGEX REPLACE "\n[^\n]*$" "" worktree "${worktree}")
    string(SHA256 hash "${worktree}")
    string(SUBSTRING "${hash}" 0 8 hash)
    set(commit_file "${CMAKE_BINARY_DIR}/ark-docker/commit-${hash}")
    set(commit_target ark-docker-commit-${hash})
    if(NOT TARGET ${commit_target})
      add_custom_target(
        ${commit_target}
        COMMAND "${CMAKE_COMMAND}" -D "GIT=${GIT_EXECUTABLE}" -D "WORKTREE=${worktree}" -D "FILE=${commit_file}"
                -P "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/ArkDockerCommit.cmake"
        COMMAND "${CMAKE_COMMAND}" -E compare_files "${commit_file}" "${commit_file}"
        BYPRODUCTS "${commit_file}"
        COMMENT "Looking up the commit"
        VERBATIM)
    endif()
  endif()
endmacro()

# Appends to `settings` a line that sets `setting` to the list in `variable`.
macro(_ark_docker_append_setting setting variable)
  string(APPEND settings "set(${setting}")
  foreach(value IN LISTS ${variable})
    string(REPLACE ";" "\\;" value "${value}")
    string(APPEND settings " [=====[${value}]=====]")
  endforeach()
  string(APPEND settings ")\n")
endmacro()
