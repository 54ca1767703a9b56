# Which versions find_package(ArkDocker VERSION) may ask for: as for cargo, none that is newer, and
# before 1.0 none of another minor number.

set(PACKAGE_VERSION 0.1.0)
string(REGEX MATCH "^0\\.[0-9]+|^[1-9][0-9]*" _ark_docker_series "${PACKAGE_VERSION}")

if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION
   OR PACKAGE_FIND_VERSION VERSION_LESS _ark_docker_series)
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
unset(_ark_docker_series)
