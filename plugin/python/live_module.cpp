#include "arrays.h"

#include "engine/latency.h"
#include "engine/live_player.h"

#include <algorithm>
#include <memory>

namespace stemline::python {

namespace {

py::object readRun(InputStream& stream, int maxFrames) {
    auto [audio, rows] = newArray({stream.channels()}, std::max(maxFrames, 0));
    const InputStream::Run run = stream.read(rows.pointers.data(), maxFrames);
    if (run.frames == 0)
        return py::none();
    const py::slice frames(0, run.frames, 1);
    return py::make_tuple(run.segment, run.frame, audio[py::make_tuple(py::ellipsis(), frames)]);
}

void addStreams(py::module_& module) {
    py::class_<Segment>(module, "Segment")
        .def_readonly("first_frame", &Segment::firstFrame)
        .def_readonly("position", &Segment::position)
        .def_readonly("epoch", &Segment::epoch)
        .def_readonly("playing", &Segment::playing);

    py::class_<InputStream>(module, "InputStream", "What the host sent, from the audio thread to a worker.")
        .def(py::init<int, int>(), py::arg("capacity_frames"), py::arg("channels"))
        .def("begin_segment", &InputStream::beginSegment, py::arg("position"), py::arg("playing"))
        .def(
            "write",
            [](InputStream& self, const Array& audio) {
                const auto rows = rowsOf(audio, {self.channels()}, "audio");
                return self.write(rows.pointers.data(), rows.frames);
            },
            py::arg("audio_CN"), "False when frames were lost.")
        .def("read", &readRun, py::arg("max_frames"), "(segment, frame, audio_CN), or None when nothing is there.")
        .def_property_readonly("frames_written", &InputStream::framesWritten)
        .def_property_readonly("lost_frames", &InputStream::lostFrames)
        .def_property_readonly("capacity", &InputStream::capacity);

    py::class_<StemTimeline::Written>(module, "Written")
        .def_readonly("placed", &StemTimeline::Written::placed)
        .def_readonly("late", &StemTimeline::Written::late)
        .def_readonly("repeated", &StemTimeline::Written::repeated)
        .def_readonly("refused", &StemTimeline::Written::refused);

    py::class_<StemTimeline>(module, "StemTimeline", "Finished stems, from a worker to the audio thread, by frame.")
        .def(py::init<int, int>(), py::arg("capacity_frames"), py::arg("channels"))
        .def(
            "write",
            [](StemTimeline& self, std::int64_t frame, const Array& stems, std::uint32_t mask) {
                const auto rows = rowsOf(stems, {numSeparated, self.channels()}, "stems");
                return self.write(frame, mask, rows.pointers.data(), rows.frames);
            },
            py::arg("frame"), py::arg("stems_SCN"), py::arg("stem_mask") = (1u << numSeparated) - 1)
        .def("give_up", &StemTimeline::giveUp, py::arg("frame"), py::arg("frames"))
        .def("ready_from", &StemTimeline::readyFrom, py::arg("frame"), py::arg("at_most"))
        .def("settled_from", &StemTimeline::settledFrom, py::arg("frame"), py::arg("at_most"))
        .def(
            "read",
            [](const StemTimeline& self, std::int64_t frame, int frames) {
                auto [stems, rows] = newArray({numSeparated, self.channels()}, std::max(frames, 0));
                const int absent = self.read(frame, rows.frames, rows.pointers.data());
                return py::make_tuple(stems, absent);
            },
            py::arg("frame"), py::arg("frames"), "(stems_SCN, how many frames are absent).")
        .def("played", &StemTimeline::played, py::arg("frame"))
        .def_property_readonly("played_up_to", &StemTimeline::playedUpTo)
        .def_property_readonly("capacity", &StemTimeline::capacity);
}

std::unique_ptr<LivePlayer> newPlayer(int channels, int maxBlock, int latency, double rate) {
    auto player = std::make_unique<LivePlayer>();
    player->prepare(channels, maxBlock, latency, rate);
    return player;
}

py::tuple process(LivePlayer& player, const Array& audio, std::int64_t position, bool playing) {
    const int channels = player.input().channels();
    const auto in = rowsOf(audio, {channels}, "audio");
    auto [stems, stemRows] = newArray({numStems, channels}, in.frames);
    auto [delayed, delayedRows] = newArray({channels}, in.frames);
    player.process({playing, position}, in.pointers.data(), in.frames, stemRows.pointers.data(),
                   delayedRows.pointers.data());
    return py::make_tuple(stems, delayed);
}

} // namespace

void addLive(py::module_& module) {
    addStreams(module);
    py::class_<LivePlayer>(module, "LivePlayer", "All of Live on the audio thread.")
        .def(py::init(&newPlayer), py::arg("channels"), py::arg("max_block"), py::arg("latency"), py::arg("rate"))
        .def("process", &process, py::arg("audio_CN"), py::arg("position"), py::arg("playing"),
             "(stems_SCN of all seven, delayed_CN).")
        .def("ready_for", &LivePlayer::readyFor, py::arg("frames"))
        .def_property_readonly("input", &LivePlayer::input, py::return_value_policy::reference_internal)
        .def_property_readonly("timeline", &LivePlayer::timeline, py::return_value_policy::reference_internal)
        .def_property_readonly("latency", &LivePlayer::latency)
        .def_property_readonly("next_frame", &LivePlayer::nextFrame)
        .def_property_readonly("stem_gain", &LivePlayer::stemGain)
        .def_property_readonly("late_frames", [](const LivePlayer& self) { return self.counters().lateFrames.load(); })
        .def_property_readonly("late_blocks", [](const LivePlayer& self) { return self.counters().lateBlocks.load(); })
        .def_property_readonly("jumps", [](const LivePlayer& self) { return self.counters().jumps.load(); });

    py::class_<LatencyPlan>(module, "LatencyPlan")
        .def_readonly("total", &LatencyPlan::total)
        .def_readonly("ask_server", &LatencyPlan::askServer);
    module.def("plan_latency", &planLatency, py::arg("chosen_s"), py::arg("rate"), py::arg("host_block"),
               py::arg("jitter_s"));
    module.def("total_latency", &totalLatency, py::arg("server_latency"), py::arg("rate"), py::arg("host_block"),
               py::arg("jitter_s"));
}

} // namespace stemline::python
