# write_console_scripts(<setup.cfg> <key> <folder> <variable>)
#
# Writes one executable into <folder> for every `name = module:function` under <key> of <setup.cfg>, and puts their
# paths into <variable>. pip makes the same commands out of the entries under `console_scripts`.
function(write_console_scripts setup_cfg key folder variable)
  get_filename_component(setup_cfg "${setup_cfg}" ABSOLUTE)
  file(READ "${setup_cfg}" text)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${setup_cfg}")
  if(NOT text MATCHES "\n${key} *=((\n[ \t]+[^\n]+)+)")
    message(FATAL_ERROR "${setup_cfg} lists no ${key}")
  endif()
  string(STRIP "${CMAKE_MATCH_1}" entries)
  string(REGEX REPLACE "\n[ \t]*" ";" entries "${entries}")

  set(paths)
  foreach(entry IN LISTS entries)
    if(NOT entry MATCHES "^([A-Za-z0-9_.-]+) *= *([A-Za-z0-9_.]+):([A-Za-z0-9_]+)$")
      message(FATAL_ERROR "${setup_cfg}: '${entry}' is not of the form 'name = module:function'")
    endif()
    set(path "${folder}/${CMAKE_MATCH_1}")
    # env, so that an active virtual environment with torch in it is used.
    file(WRITE "${path}"
"#!/usr/bin/env python3
import sys

from ${CMAKE_MATCH_2} import ${CMAKE_MATCH_3}

if __name__ == \"__main__\":
    sys.exit(${CMAKE_MATCH_3}())
")
    # A symlink installation links to this very file instead of copying it with new permissions.
    file(CHMOD "${path}" PERMISSIONS
      OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
    list(APPEND paths "${path}")
  endforeach()
  set(${variable} "${paths}" PARENT_SCOPE)
endfunction()
