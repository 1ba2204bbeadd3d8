# gRPC and protobuf-lite: the system's shared libraries, or built from source and hidden inside the plugin. Debian's
# static archives are not position independent, so there is no third way.
if(STEMLINE_BUNDLED_GRPC)
  include(FetchContent)
  set(gRPC_BUILD_TESTS OFF CACHE BOOL "" FORCE)
  set(gRPC_INSTALL OFF CACHE BOOL "" FORCE)
  set(protobuf_BUILD_TESTS OFF CACHE BOOL "" FORCE)
  FetchContent_Declare(grpc GIT_REPOSITORY https://github.com/grpc/grpc.git GIT_TAG v1.62.2 GIT_SHALLOW ON)
  FetchContent_MakeAvailable(grpc)
  set(stemline_protoc $<TARGET_FILE:protoc>)
  set(stemline_grpc_plugin $<TARGET_FILE:grpc_cpp_plugin>)
  set(stemline_grpc_libraries grpc++ libprotobuf-lite)
else()
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(grpcpp REQUIRED IMPORTED_TARGET grpc++)
  find_program(stemline_protoc protoc REQUIRED)
  find_program(stemline_grpc_plugin grpc_cpp_plugin REQUIRED)
  find_library(protobuf_lite protobuf-lite REQUIRED)
  set(stemline_grpc_libraries PkgConfig::grpcpp ${protobuf_lite})
endif()

# The contract with LITE_RUNTIME: the full runtime keeps a process-wide registry of files, and aborts the host when a
# second plugin binary brings the same ones. So the .proto files are copied with that option set, and the two well-known
# types in them, which only the full runtime has, are replaced by messages that look the same on the wire.
file(GLOB stemline_protos CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../../proto/stems/v1/*.proto)
list(FILTER stemline_protos EXCLUDE REGEX "/generate\\.proto$")  # no plugin asks for that
set(generated ${CMAKE_BINARY_DIR}/generated)
set(lite ${CMAKE_BINARY_DIR}/proto)
set(stemline_proto_sources)
set(lite_protos)
foreach(proto ${stemline_protos})
  get_filename_component(name ${proto} NAME_WE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${proto})
  file(READ ${proto} text)
  string(REPLACE "\npackage stems.v1;" "\npackage stems.v1;\noption optimize_for = LITE_RUNTIME;" text "${text}")
  string(REGEX REPLACE "google/protobuf/(duration|timestamp).proto" "stems/lite/\\1.proto" text "${text}")
  string(REGEX REPLACE "google.protobuf.(Duration|Timestamp)" "stems.lite.\\1" text "${text}")
  file(CONFIGURE OUTPUT ${lite}/stems/v1/${name}.proto CONTENT "${text}" @ONLY)
  list(APPEND lite_protos ${lite}/stems/v1/${name}.proto)
  foreach(suffix pb.h pb.cc grpc.pb.h grpc.pb.cc)
    list(APPEND stemline_proto_sources ${generated}/stems/v1/${name}.${suffix})
  endforeach()
endforeach()
foreach(type Duration Timestamp)
  string(TOLOWER ${type} name)
  file(CONFIGURE OUTPUT ${lite}/stems/lite/${name}.proto @ONLY CONTENT
"syntax = \"proto3\";
package stems.lite;
option optimize_for = LITE_RUNTIME;
message ${type} { int64 seconds = 1; int32 nanos = 2; }
")
  list(APPEND lite_protos ${lite}/stems/lite/${name}.proto)
  list(APPEND stemline_proto_sources ${generated}/stems/lite/${name}.pb.h ${generated}/stems/lite/${name}.pb.cc)
endforeach()
add_custom_command(
  OUTPUT ${stemline_proto_sources}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${generated}
  COMMAND ${stemline_protoc} -I${lite} --cpp_out=${generated} --grpc_out=${generated}
          --plugin=protoc-gen-grpc=${stemline_grpc_plugin} ${lite_protos}
  DEPENDS ${lite_protos}
  VERBATIM)
add_library(stemline_proto STATIC ${stemline_proto_sources})
target_include_directories(stemline_proto SYSTEM PUBLIC ${generated})
target_compile_definitions(stemline_proto PUBLIC GRPC_USE_PROTO_LITE)
target_link_libraries(stemline_proto PUBLIC ${stemline_grpc_libraries})
