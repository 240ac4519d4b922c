//! When each beat goes, before there is any hardware: the handshakes of the modules, cycle by cycle, without data.

use std::collections::VecDeque;

use super::design::{Design, Instance, Kind};
use crate::ops::language::sv::{Geometry, Machine};

/// What the handshakes of a few frames, one behind the other and never kept waiting, come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Cycles from the first code that goes in to the last one of each frame that comes out.
    pub ends: Vec<u64>,
    /// For each instance that is a queue, the most codes that it has held.
    pub fills: Vec<usize>,
    /// For each instance, the cycles of all frames in which it was at work.
    pub busy: Vec<u64>,
}

impl Schedule {
    /// Cycles from the first code of a frame to its last result, while there is no other.
    pub fn latency(&self) -> u64 {
        self.ends[0]
    }

    /// Cycles between two frames that follow each other.
    pub fn interval(&self) -> u64 {
        match self.ends[..] {
            [.., a, b] => b - a,
            _ => self.latency(),
        }
    }

    /// The most cycles between the ends of two frames.
    pub fn widest_gap(&self) -> u64 {
        self.ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX)
    }

    /// Runs `frames` frames through `design`; nothing if it stops before they are through, or where two frames are
    /// more than `most` cycles apart.
    pub fn of(design: &Design, frames: usize, most: u64) -> Option<Self> {
        Run::new(design, frames).run(most)
    }
}

/// Cycles after the reset in which every module gets ready for the first code.
const SETTLED: u64 = 4;

/// Results on their way, and those that have landed.
#[derive(Debug)]
struct Landing {
    free: usize,
    /// When each of them lands.
    arrivals: VecDeque<u64>,
}

impl Landing {
    fn new(depth: usize) -> Self {
        Self { free: depth, arrivals: VecDeque::new() }
    }

    fn valid(&self, now: u64) -> bool {
        self.arrivals.front().is_some_and(|&arrival| arrival < now)
    }

    fn pop(&mut self) {
        self.arrivals.pop_front();
        self.free += 1;
    }
}

/// Where an instance is in its work. Each mirrors a module, register by register.
#[derive(Debug)]
enum State {
    /// Codes that are left to give.
    Source(usize),
    Constant,
    Fork(Vec<bool>),
    Queue {
        depth: usize,
        used: usize,
        out: bool,
        most: usize,
    },
    /// Codes that are left to take.
    Sink(usize),
    Flow {
        at: usize,
        ready_at: u64,
        landing: Landing,
        machine: Machine,
    },
    Windows(Box<Windows>),
    Batch {
        taken: usize,
        given: usize,
        due: Option<u64>,
        size: usize,
        think: u64,
        each: u64,
    },
}

struct Run<'a> {
    design: &'a Design<'a>,
    frames: usize,
    states: Vec<State>,
    valid: Vec<bool>,
    ready: Vec<bool>,
    busy: Vec<u64>,
}

impl<'a> Run<'a> {
    fn new(design: &'a Design, frames: usize) -> Self {
        let state = |instance: &Instance| match &instance.kind {
            Kind::Input(_) => State::Source(frames * design.streams[instance.outputs[0]].frame),
            Kind::Constant(_) => State::Constant,
            Kind::Fork => State::Fork(vec![false; instance.outputs.len()]),
            &Kind::Queue(depth) => State::Queue { depth, used: 0, out: false, most: 0 },
            Kind::Output(_) | Kind::Drop => {
                State::Sink(frames * design.streams[instance.inputs[0]].frame)
            }
            &Kind::Node(i) => match design.nodes[i].as_ref().map(|node| &node.machine) {
                Some(Machine::Windows { geometry, per, latency, hold, depth }) => {
                    State::Windows(Box::new(Windows::new(geometry, *per, *latency, *hold, *depth)))
                }
                Some(&Machine::Batch { size, think, each }) => {
                    State::Batch { taken: 0, given: 0, due: None, size, think, each }
                }
                Some(machine @ &Machine::Flow { depth, .. }) => {
                    let (landing, machine) = (Landing::new(depth), machine.clone());
                    State::Flow { at: 0, ready_at: 0, landing, machine }
                }
                None => State::Constant,
            },
        };
        let streams = design.streams.len();
        Self {
            design,
            frames,
            states: design.instances.iter().map(state).collect(),
            valid: vec![false; streams],
            ready: vec![false; streams],
            busy: vec![0; design.instances.len()],
        }
    }

    fn run(mut self, most: u64) -> Option<Schedule> {
        let (mut first, mut ends, mut last_event) = (None, vec![], 0);
        let patience = 1000 + self.patience();
        for now in 0.. {
            self.settle(now);
            let went = self.clock(now);
            if went {
                last_event = now;
                first = first.or(Some(now));
            }
            let left =
                self.states.iter().zip(&self.design.instances).map(|(state, instance)| {
                    match (state, &instance.kind) {
                        (State::Sink(left), Kind::Output(_)) => {
                            left.div_ceil(self.design.streams[instance.inputs[0]].frame)
                        }
                        _ => 0,
                    }
                });
            let left = left.max().unwrap_or(0);
            while ends.len() < self.frames - left {
                ends.push(now - first.unwrap_or(0));
                if let [.., a, b] = ends[..]
                    && b - a > most
                {
                    return None;
                }
            }
            if left == 0 {
                break;
            }
            if now - last_event > patience {
                return None;
            }
        }
        let fill = |state: &State| match state {
            State::Queue { most, .. } => Some(*most),
            _ => None,
        };
        let fills = self.states.iter().filter_map(fill).collect();
        Some(Schedule { ends, fills, busy: self.busy })
    }

    /// Cycles after which something happens, if anything does.
    fn patience(&self) -> u64 {
        let of = |state: &State| match state {
            State::Windows(w) => {
                w.latency + w.hold + 4 + (w.geometry.repeats * w.geometry.taps()) as u64
            }
            State::Batch { think, each, .. } => think + each,
            State::Flow { machine: Machine::Flow { latency, hold, .. }, .. } => latency + hold,
            _ => 2,
        };
        self.states.iter().map(of).sum()
    }

    /// Which streams offer a beat, and which are taken.
    fn settle(&mut self, now: u64) {
        for (state, instance) in self.states.iter().zip(&self.design.instances) {
            let valid = match state {
                State::Source(left) => *left > 0 && now >= SETTLED,
                State::Constant => true,
                State::Fork(had) => {
                    let offered = self.valid[instance.inputs[0]];
                    for (had, &output) in had.iter().zip(&instance.outputs) {
                        self.valid[output] = offered && !had;
                    }
                    continue;
                }
                State::Queue { out, .. } => *out,
                State::Sink(_) => continue,
                State::Flow { landing, .. } => landing.valid(now),
                State::Windows(windows) => windows.landing.valid(now),
                State::Batch { due, .. } => due.is_some_and(|due| due <= now),
            };
            self.valid[instance.outputs[0]] = valid;
        }
        for (state, instance) in self.states.iter().zip(&self.design.instances).rev() {
            let ready = match state {
                State::Source(_) | State::Constant => continue,
                State::Fork(had) => {
                    let mut each = had.iter().zip(&instance.outputs);
                    each.all(|(had, &output)| *had || self.ready[output])
                }
                State::Queue { depth, used, .. } => used < depth,
                State::Sink(_) => true,
                State::Flow { at, ready_at, landing, machine } => {
                    let Machine::Flow { silent, .. } = machine else { continue };
                    let room = at < silent || (landing.free > 0 && *ready_at <= now);
                    room && instance.inputs.iter().all(|&input| self.valid[input])
                }
                State::Windows(windows) => windows.ready(),
                State::Batch { taken, size, .. } => taken < size,
            };
            instance.inputs.iter().for_each(|&input| self.ready[input] = ready);
        }
    }

    /// The beats go; whether any did, or was worked on.
    fn clock(&mut self, now: u64) -> bool {
        let mut any = false;
        let fired = |stream: usize| self.valid[stream] && self.ready[stream];
        let each = self.states.iter_mut().zip(&self.design.instances).zip(&mut self.busy);
        for ((state, instance), busy) in each {
            let came = instance.inputs.first().is_some_and(|&input| fired(input));
            let left = instance.outputs.first().is_some_and(|&output| fired(output));
            any |= came || left;
            match state {
                State::Source(count) => *count -= left as usize,
                State::Constant => {}
                State::Fork(had) => {
                    for (had, &output) in had.iter_mut().zip(&instance.outputs) {
                        *had = !came && (*had || fired(output));
                    }
                }
                State::Queue { used, out, most, .. } => {
                    let load = *used > 0 && (!*out || left);
                    *used = *used + came as usize - load as usize;
                    *out = load || (*out && !left);
                    *most = (*most).max(*used);
                }
                State::Sink(count) => *count -= came as usize,
                State::Flow { at, ready_at, landing, machine } => {
                    let &mut Machine::Flow { period, silent, latency, hold, .. } = machine else {
                        continue;
                    };
                    if left {
                        landing.pop();
                    }
                    if came {
                        *busy += 1;
                        if *at >= silent {
                            landing.free -= 1;
                            landing.arrivals.push_back(now + latency);
                            *ready_at = now + hold;
                            *busy += hold - 1;
                        }
                        *at = (*at + 1) % period;
                    }
                }
                State::Windows(windows) => {
                    let tap = windows.clock(now, came, left);
                    *busy += tap as u64;
                    any |= tap;
                }
                State::Batch { taken, given, due, size, think, each } => {
                    *busy += (*taken > 0 || came) as u64;
                    *taken += came as usize;
                    if came && taken == size {
                        *due = Some(now + *think + *each);
                    }
                    if left {
                        *given += 1;
                        *due = Some(now + 1 + *each);
                    }
                    if given == size {
                        (*taken, *given, *due) = (0, 0, None);
                    }
                }
            }
        }
        any
    }
}

/// The registers of `window.sv`, and of `widen.sv` before it.
#[derive(Debug)]
struct Windows {
    geometry: Geometry,
    per: usize,
    latency: u64,
    hold: u64,
    landing: Landing,
    /// Codes that wait to become a beat.
    widened: usize,
    w_x: usize,
    w_beat: usize,
    rows_in: i64,
    rows_freed: i64,
    room: bool,
    room_after: bool,
    w_row_ended: bool,
    n_oy: usize,
    n_ox: usize,
    n_base: i64,
    n_known: bool,
    n_ready: bool,
    active: bool,
    /// Beats of the position, and of its sum, that have gone out.
    beat: usize,
    tap: usize,
    /// Sums may begin from here on.
    idle_at: u64,
    taps: usize,
    of_position: usize,
}

impl Windows {
    fn new(geometry: &Geometry, per: usize, latency: u64, hold: u64, depth: usize) -> Self {
        Self {
            taps: geometry.taps(),
            of_position: geometry.groups * geometry.repeats * geometry.taps(),
            geometry: geometry.clone(),
            per,
            latency,
            hold,
            landing: Landing::new(depth),
            widened: 0,
            w_x: 0,
            w_beat: 0,
            rows_in: 0,
            rows_freed: 0,
            room: false,
            room_after: false,
            w_row_ended: false,
            n_oy: 0,
            n_ox: 0,
            n_base: 0,
            n_known: false,
            n_ready: false,
            active: false,
            beat: 0,
            tap: 0,
            idle_at: 0,
        }
    }

    /// Whether the ring takes a beat.
    fn takes(&self) -> bool {
        if self.w_row_ended { self.room_after } else { self.room }
    }

    /// Whether a code is taken.
    fn ready(&self) -> bool {
        match self.geometry.lanes {
            1 => self.takes(),
            lanes => self.widened < lanes || self.takes(),
        }
    }

    /// The first and the last row, or column, that the next position needs.
    fn needed(&self, axis: usize) -> (i64, i64) {
        let g = &self.geometry;
        let at = [self.n_oy, self.n_ox][axis] * g.stride[axis];
        let first = at as i64 - g.pad[axis] as i64;
        let last = first + ((g.kernel[axis] - 1) * g.dilation[axis]) as i64;
        (first.clamp(0, g.x[axis] as i64), last.clamp(0, g.x[axis] as i64 - 1))
    }

    /// A code comes in, a result goes out; whether a tap goes.
    fn clock(&mut self, now: u64, came: bool, left: bool) -> bool {
        let (lanes, beats) = (self.geometry.lanes, self.geometry.beats());
        let [height, width, _] = self.geometry.x;
        let full = self.widened == lanes;
        let w_go = self.takes() && if lanes == 1 { came } else { full };
        if lanes > 1 {
            self.widened = match full {
                true if w_go => came as usize,
                true => lanes,
                false => self.widened + came as usize,
            };
        }
        let tap =
            self.active && (self.tap > 0 || (self.landing.free >= self.per && self.idle_at <= now));
        let position_end = tap && self.beat + 1 == self.of_position;
        let load = self.n_ready && (!self.active || position_end);
        let ((from, need), (_, x_need)) = (self.needed(0), self.needed(1));
        let ahead = self.rows_in - (self.n_base + need);
        let has_come = ahead > 0 || (ahead == 0 && self.w_x as i64 > x_need);
        let (room, room_after) = {
            let held = self.rows_in - self.rows_freed;
            let rows = self.geometry.rows() as i64;
            (held < rows, held < rows - 1)
        };

        if left {
            self.landing.pop();
        }
        if tap {
            if self.tap == 0 {
                self.landing.free -= self.per;
            }
            self.tap += 1;
            self.beat += 1;
            if self.tap == self.taps {
                self.tap = 0;
                let first = now + self.latency;
                self.landing.arrivals.extend(first..first + self.per as u64);
                self.idle_at = now + self.hold;
            }
        }
        if self.n_known && self.n_ox == 0 && (!self.active || position_end) {
            self.rows_freed = self.n_base + from;
        }
        self.active = load || (self.active && !position_end);
        if position_end {
            self.beat = 0;
        }
        self.n_ready = !load && self.n_known && has_come;
        self.n_known = !load;
        if load {
            self.n_ox += 1;
            if self.n_ox == self.geometry.y[1] {
                (self.n_ox, self.n_oy) = (0, self.n_oy + 1);
                if self.n_oy == self.geometry.y[0] {
                    (self.n_oy, self.n_base) = (0, self.n_base + height as i64);
                }
            }
        }
        (self.room, self.room_after) = (room, room_after);
        let pixel_end = self.w_beat + 1 == beats;
        self.w_row_ended = w_go && pixel_end && self.w_x + 1 == width;
        if w_go {
            self.w_beat = if pixel_end { 0 } else { self.w_beat + 1 };
            self.w_x += pixel_end as usize;
            if self.w_row_ended {
                (self.w_x, self.rows_in) = (0, self.rows_in + 1);
            }
        }
        tap
    }
}
