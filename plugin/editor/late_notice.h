#pragma once
// When blocks that came too late deserve a banner.

namespace stemline::editor {

/** From the first late block until somebody has dismissed it, or none came for a while. Message thread. */
class LateNotice {
  public:
    static constexpr double restSeconds = 20.0;

    /** How many there are to speak of; 0: say nothing. `total` counts up, and begins anew with the stream. */
    int update(int total, double nowSeconds) {
        if (!begun_ || total < total_)
            seen_ = begun_ ? 0 : total; // what was before the editor opened is no news
        if (begun_ && total > total_)
            lastAt_ = nowSeconds;
        begun_ = true;
        total_ = total;
        if (nowSeconds - lastAt_ >= restSeconds)
            seen_ = total_;
        return total_ - seen_;
    }

    void dismiss() { seen_ = total_; }

  private:
    bool begun_ = false;
    int total_ = 0, seen_ = 0;
    double lastAt_ = 0.0;
};

} // namespace stemline::editor
