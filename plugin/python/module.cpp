// The engine for Python. Everything is called from one thread here; arrays are float32, [channels, frames] or
// [stems, channels, frames].
#include "arrays.h"

#include "engine/live_player.h"
#include "engine/mixer.h"

#include <pybind11/stl.h>

namespace stemline::python {

namespace {

/// A mixer that knows how many channels it was prepared for.
struct PreparedMixer {
    Mixer mixer;
    int channels;

    PreparedMixer(double rate, int channels_) : channels(channels_) {
        if (channels < 1 || channels > maxChannels)
            throw py::value_error("a mixer has 1 or 2 channels");
        mixer.prepare(rate, channels);
    }

    Array process(const Array& stems, const MixTargets& targets) {
        const auto in = rowsOf(stems, {numStems, channels}, "stems");
        auto [main, rows] = newArray({channels}, in.frames);
        mixer.process(targets, in.pointers.data(), rows.pointers.data(), in.frames);
        return main;
    }
};

} // namespace

} // namespace stemline::python

PYBIND11_MODULE(stemline_engine, module) {
    using namespace stemline;
    using namespace stemline::python;
    module.doc() = "What the plugin's audio thread runs: streams, the live player, latency arithmetic, the mixer.";
    py::list stems;
    for (int i = 0; i < numStems; ++i)
        stems.append(stemName(static_cast<Stem>(i)));
    module.attr("STEMS") = py::tuple(stems);
    module.attr("FADE_FRAMES") = fadeFrames;
    module.attr("MIN_LATENCY") = int{LivePlayer::minLatency};
    addLive(module);

    py::class_<MixTargets>(module, "MixTargets")
        .def(py::init<>())
        .def_readwrite("gain", &MixTargets::gain)
        .def_readwrite("main_source", &MixTargets::mainSource);
    module.def("fold", &fold, py::arg("gains_db"), py::arg("solos"), py::arg("mutes"), py::arg("main_source") = -1);
    py::class_<PreparedMixer>(module, "Mixer")
        .def(py::init<double, int>(), py::arg("rate"), py::arg("channels"))
        .def("process", &PreparedMixer::process, py::arg("stems_SCN"), py::arg("targets"));
}
