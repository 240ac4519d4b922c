//! When a module takes codes and gives results: counters only, from which the schedule of a network follows.

/// The handshakes of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Takes a beat of each argument whenever there is room for its result.
    Flow {
        /// Beats after which it begins anew.
        period: usize,
        /// Of them, those at the beginning that give no result.
        silent: usize,
        /// Cycles until a result lands.
        latency: u64,
        /// Cycles from a beat that gives a result to the next one.
        hold: u64,
        /// Results that have room where they land.
        depth: usize,
    },
    /// Windows over an image.
    Windows {
        /// Where they are.
        geometry: Geometry,
        /// Results of each group of taps.
        per: usize,
        /// Cycles from the last tap until the first result lands.
        latency: u64,
        /// Cycles from the last tap to the next one, if they do not follow each other.
        hold: u64,
        /// Results that have room where they land.
        depth: usize,
    },
    /// Takes a frame, and gives it when it has thought about it.
    Batch {
        /// Codes of a frame.
        size: usize,
        /// Cycles from the last code until the first result begins.
        think: u64,
        /// Cycles from the beginning of a result until it is there.
        each: u64,
    },
}

impl Default for Machine {
    fn default() -> Self {
        Self::Flow { period: 1, silent: 0, latency: 1, hold: 1, depth: 4 }
    }
}

/// What the module `window` is told, and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Geometry {
    /// `[h, w, c]`.
    pub x: [usize; 3],
    /// `[h, w]` of the result.
    pub y: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Rows above and columns left of the image.
    pub pad: [usize; 2],
    /// Codes of a beat.
    pub lanes: usize,
    /// Groups that the beats of a pixel are divided into.
    pub groups: usize,
    /// How often the taps of a group go out.
    pub repeats: usize,
}

impl Geometry {
    /// Beats of a pixel.
    pub fn beats(&self) -> usize {
        self.x[2] / self.lanes
    }

    /// Beats of one sum.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.beats() / self.groups
    }

    /// Rows in the ring.
    pub fn rows(&self) -> usize {
        let reach = (self.kernel[0] - 1) * self.dilation[0] + 1;
        reach.min(self.x[0]) + self.stride[0]
    }

    /// Beats of all sums of a frame; a position takes three cycles at least.
    pub fn cycles(&self) -> u64 {
        let of_position = self.groups * self.repeats * self.taps();
        (self.y[0] * self.y[1] * of_position.max(3)) as u64
    }
}
