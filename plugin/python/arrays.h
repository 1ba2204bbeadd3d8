#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

namespace stemline::python {

namespace py = pybind11;

/// float32, C order; what has another type or order is copied into that.
using Array = py::array_t<float, py::array::c_style | py::array::forcecast>;

/// The rows of an array whose last axis is frames, as the engine takes them. All axes before are rows.
template <class Sample> struct Rows {
    std::vector<Sample*> pointers;
    int frames = 0;
};

inline void checkShape(const Array& array, const std::vector<py::ssize_t>& rows, const char* name) {
    bool right = array.ndim() == static_cast<py::ssize_t>(rows.size()) + 1;
    std::string wanted;
    for (std::size_t axis = 0; axis < rows.size(); ++axis) {
        right = right && array.shape(static_cast<py::ssize_t>(axis)) == rows[axis];
        wanted += std::to_string(rows[axis]) + ", ";
    }
    if (!right)
        throw py::value_error(std::string(name) + " has to have the shape (" + wanted + "frames)");
}

/// Read only, after checking its shape.
inline Rows<const float> rowsOf(const Array& array, const std::vector<py::ssize_t>& rows, const char* name) {
    checkShape(array, rows, name);
    Rows<const float> result;
    result.frames = static_cast<int>(array.shape(array.ndim() - 1));
    const py::ssize_t count = result.frames == 0 ? 0 : array.size() / result.frames;
    for (py::ssize_t row = 0; row < count; ++row)
        result.pointers.push_back(array.data() + row * result.frames);
    py::ssize_t wanted = 1;
    for (const py::ssize_t axis : rows)
        wanted *= axis;
    result.pointers.resize(static_cast<std::size_t>(wanted), nullptr); // an empty array has rows, too
    return result;
}

/// A new array and its rows, to be written.
inline std::pair<Array, Rows<float>> newArray(std::vector<py::ssize_t> rows, int frames) {
    py::ssize_t count = 1;
    for (const py::ssize_t axis : rows)
        count *= axis;
    rows.push_back(frames);
    Array array(rows);
    Rows<float> result;
    result.frames = frames;
    for (py::ssize_t row = 0; row < count; ++row)
        result.pointers.push_back(array.mutable_data() + row * frames);
    return {std::move(array), std::move(result)};
}

void addLive(py::module_& module);

} // namespace stemline::python
