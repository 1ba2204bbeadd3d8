#!/bin/sh
# What the plugin is built with, and with "test" and "hosts" what it is tested with. On Debian and Ubuntu it is
# installed; elsewhere this says what to install.
set -eu

packages="cmake ninja-build g++ pkg-config ccache python3-dev juce-modules-source juce-tools libgrpc++-dev
protobuf-compiler
protobuf-compiler-grpc libprotobuf-dev libsndfile1-dev libsoxr-dev pybind11-dev catch2 libasound2-dev
libjack-jackd2-dev libx11-dev libxext-dev libxrandr-dev libxinerama-dev libxcursor-dev libfreetype-dev
libgl-dev libwebkit2gtk-4.0-dev libcurl4-openssl-dev"
for set in "$@"; do
    case "$set" in
    # for the training code: ffmpeg reads MUSDB18's MP4s; FluidSynth and a soundfont render songs
    test) packages="$packages xvfb xauth lv2-dev ffmpeg libfluidsynth3 musescore-general-soundfont-small" ;;
    hosts) packages="$packages ardour" ;;
    esac
done

case "$(uname -s)" in
Linux) ;;
Darwin)
    echo "The plugin needs Xcode, and from Homebrew: brew install cmake ninja pkg-config grpc protobuf libsndfile libsoxr"
    echo "JUCE 8 is fetched, or given with -DSTEMLINE_JUCE_PATH=... ; see docs/plugin.md"
    exit 0
    ;;
*)
    echo "The plugin needs CMake, a C++20 compiler, gRPC, protobuf, libsndfile, libsoxr and JUCE; see docs/plugin.md"
    exit 0
    ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "The plugin needs what these Debian packages hold; please install your distribution's:" $packages
    exit 0
fi

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "as root: apt-get install$missing"; exit 1; }
    as_root=sudo
fi
echo "installing$missing"
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
