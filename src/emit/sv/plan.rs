//! How a network is folded, how deep its queues are, and what that comes to, before there is any hardware.

use std::fmt;

use serde::Serialize;

use super::design::{Design, Kind};
use super::schedule::Schedule;
use crate::error::{Result, bail};
use crate::lower::IntGraph;
use crate::text::printable;

/// What is asked of the hardware.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Aim {
    /// No more than so many cycles between frames, with as few multipliers as that takes.
    Cycles(u64),
    /// As few cycles between frames as so many multipliers allow.
    Multipliers(usize),
}

impl Default for Aim {
    fn default() -> Self {
        Self::Cycles(300_000)
    }
}

/// A network as hardware, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Cycles from the first code of a frame to its last result, where nothing waits.
    pub latency: u64,
    /// Cycles between frames that follow each other.
    pub interval: u64,
    /// Multipliers of codes with weights.
    pub multipliers: usize,
    /// Bits of weights, of constants and of tables.
    pub constant_bits: usize,
    /// Each module, in the order of the network.
    pub modules: Vec<Planned>,
    /// Where branches join.
    pub queues: Vec<PlannedQueue>,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Planned {
    /// The node.
    pub node: String,
    /// The module's name.
    pub module: &'static str,
    /// Codes of the argument, and of the result, that go through it in parallel.
    pub folding: [usize; 2],
    /// Multipliers of codes with weights.
    pub multipliers: usize,
    /// Cycles of a frame in which it is at work.
    pub cycles: u64,
    /// Their share.
    pub busy: f64,
    /// Bits that the largest sum takes, proved.
    pub proved_bits: Option<f64>,
    /// Bits that it has.
    pub sum_bits: Option<usize>,
    /// Bits of its constants.
    pub constant_bits: usize,
}

/// What waits where branches join.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlannedQueue {
    /// The node whose argument waits.
    pub node: String,
    /// Codes that have room. With one less frames would be further apart.
    pub depth: usize,
    /// Bits of a code.
    pub bits: usize,
}

/// Frames after which nothing changes any more.
pub(super) const FRAMES: usize = 3;

/// The design that fits `aim`, with its queues, and its schedule.
pub(super) fn designed(graph: &IntGraph, aim: Aim) -> Result<(Design<'_>, Schedule)> {
    let mut design = match aim {
        Aim::Cycles(target) => Design::new(graph, target)?,
        Aim::Multipliers(most) => with_multipliers(graph, most)?,
    };
    let schedule = shorten_queues(&mut design)?;
    Ok((design, schedule))
}

/// Of the designs with no more than `most` multipliers the one that was asked for the fewest cycles.
fn with_multipliers(graph: &IntGraph, most: usize) -> Result<Design<'_>> {
    let (mut low, mut high) = (0, 1_u64 << 40);
    let slowest = Design::new(graph, high)?;
    if slowest.multipliers() > most {
        let least = slowest.multipliers();
        bail!(
            Unsupported,
            "{most} multipliers: there are {least} at least, one for each node with weights"
        );
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        match Design::new(graph, middle)?.multipliers() <= most {
            true => high = middle,
            false => low = middle,
        }
    }
    Design::new(graph, high)
}

/// Each queue as short as it can be while frames stay as near to each other.
fn shorten_queues(design: &mut Design) -> Result<Schedule> {
    let Some(free) = Schedule::of(design, FRAMES, u64::MAX) else {
        bail!(Unsupported, "the network stops: some branch waits for another that waits for it");
    };
    let queues = design.instances.iter().enumerate();
    let queues = queues.filter(|(_, instance)| matches!(instance.kind, Kind::Queue(_)));
    let queues: Vec<usize> = queues.map(|(i, _)| i).collect();
    if queues.is_empty() {
        return Ok(free);
    }
    for (&i, &fill) in queues.iter().zip(&free.fills) {
        design.instances[i].kind = Kind::Queue(fill + 1);
    }
    // What one may lack another may have to hold: until none can be any shorter.
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for &i in &queues {
            let Kind::Queue(depth) = design.instances[i].kind else { continue };
            let mut fits = |depth| {
                design.instances[i].kind = Kind::Queue(depth);
                Schedule::of(design, FRAMES, free.widest_gap()).is_some()
            };
            let (mut low, mut high) = (0, depth);
            if high > 1 && fits(high - 1) {
                (high, changed) = (high - 1, true);
                while high - low > 1 {
                    let middle = usize::midpoint(low, high);
                    if fits(middle) { high = middle } else { low = middle }
                }
            }
            design.instances[i].kind = Kind::Queue(high);
        }
    }
    match Schedule::of(design, FRAMES, u64::MAX) {
        Some(schedule) => Ok(schedule),
        None => bail!(Unsupported, "the network stops with the shortest queues"),
    }
}

impl Plan {
    /// What `graph` comes to.
    ///
    /// # Errors
    /// The first node that hardware does not have; fewer multipliers than there must be.
    pub fn new(graph: &IntGraph, aim: Aim) -> Result<Self> {
        let (design, schedule) = designed(graph, aim)?;
        Ok(Self::of(&design, &schedule))
    }

    pub(super) fn of(design: &Design, schedule: &Schedule) -> Self {
        let graph = design.graph;
        let (mut modules, mut queues) = (vec![], vec![]);
        for (instance, &busy) in design.instances.iter().zip(&schedule.busy) {
            let Kind::Node(i) = instance.kind else { continue };
            let Some(node) = &design.nodes[i] else { continue };
            let bits = node.memories.iter().map(|memory| memory.bits * memory.words.len());
            modules.push(Planned {
                node: graph.nodes[i].origin.clone(),
                module: node.module,
                folding: node.folding,
                multipliers: node.multipliers,
                cycles: busy / FRAMES as u64,
                busy: (busy / FRAMES as u64) as f64 / schedule.interval() as f64,
                proved_bits: node.sum.map(|(bound, _)| (2.0 * bound as f64 + 1.0).log2()),
                sum_bits: node.sum.map(|(_, bits)| bits),
                constant_bits: bits.sum(),
            });
            for &input in &instance.inputs {
                let from = design.instances.iter().find(|other| other.outputs.contains(&input));
                if let Some(Kind::Queue(depth)) = from.map(|from| &from.kind) {
                    let (node, bits) = (graph.nodes[i].origin.clone(), design.streams[input].bits);
                    queues.push(PlannedQueue { node, depth: *depth, bits });
                }
            }
        }
        Self {
            latency: schedule.latency(),
            interval: schedule.interval(),
            multipliers: design.multipliers(),
            constant_bits: modules.iter().map(|module| module.constant_bits).sum(),
            modules,
            queues,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { latency, interval, multipliers, constant_bits, .. } = self;
        writeln!(
            f,
            "latency     {latency:9} cycles, from the first code of a frame to its last result"
        )?;
        writeln!(f, "interval    {interval:9} cycles between frames")?;
        writeln!(f, "multipliers {multipliers:9}")?;
        writeln!(f, "constants   {constant_bits:9} bits\n")?;
        let width = |name: &str| printable(name).chars().count();
        let longest = self.modules.iter().map(|module| width(&module.node)).max().unwrap_or(0);
        let longest = longest.clamp(4, 40);
        writeln!(
            f,
            "{:longest$}  {:12} {:>9} {:>9} {:>6}  {:>11}  {:>9}",
            "node", "module", "in x out", "cycles", "busy", "sum bits", "constants"
        )?;
        for module in &self.modules {
            let name: String = printable(&module.node).to_string().chars().take(longest).collect();
            let [simd, pe] = module.folding;
            let sum = match (module.proved_bits, module.sum_bits) {
                (Some(proved), Some(built)) => format!("{proved:.1} in {built}"),
                _ => String::new(),
            };
            writeln!(
                f,
                "{name:longest$}  {:12} {:>9} {:>9} {:>5.1}%  {sum:>11}  {:>9}",
                module.module,
                format!("{simd} x {pe}"),
                module.cycles,
                100.0 * module.busy,
                module.constant_bits
            )?;
        }
        for PlannedQueue { node, depth, bits } in &self.queues {
            writeln!(f, "queue of {depth} x {bits} bits before \"{}\"", printable(node))?;
        }
        Ok(())
    }
}
