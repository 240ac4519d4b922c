//! Widths that are found, not asked for: which values take 16 bits, and which layers' weights 4 or 16, so that the
//! outputs are as exact as they have to be, or memory holds them.
//!
//! Each change is measured by what is left of the energy of the outputs' error on samples that calibration has kept and
//! no step has looked at, in runs that start where the change is, and by what it costs on a target. The search goes on by
//! the best of these; see [`tune`].

mod known;
mod measure;
mod mixed;
mod search;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{Samples, Workers};
use crate::emit::{C, Target};
use crate::error::{Result, bail};
use crate::quant::Width;
use crate::quantize::{Quantized, Quantizer, Rule};
use search::Search;

/// What is wanted, and what may be changed.
pub struct Options<'a> {
    /// How exact the outputs have to be.
    pub goal: Goal<'a>,
    /// What the network may take at most.
    pub limits: Limits,
    /// Where it takes that.
    pub target: &'static dyn Target,
    /// Widths that values may have, beside their own.
    pub activations: Vec<Width>,
    /// Widths that weights may have, beside their own.
    pub weights: Vec<Width>,
    /// Who computes; the result does not depend on it.
    pub workers: Workers<'a>,
    /// A file that holds all that was measured, after each step; what it holds already is not measured again.
    pub resume: Option<PathBuf>,
    /// Is told what happens.
    pub watch: &'a (dyn Fn(Event) + Sync),
}

impl Default for Options<'_> {
    /// As exact as can be with the widths that are there, in C.
    fn default() -> Self {
        Self {
            goal: Goal::Best,
            limits: Limits::default(),
            target: &C,
            activations: vec![],
            weights: vec![],
            workers: Workers::default(),
            resume: None,
            watch: &|_| (),
        }
    }
}

/// How exact the outputs have to be.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Goal<'a> {
    /// As exact as the limits allow.
    Best,
    /// Signal to noise of at least so many dB, on the samples that are measured.
    Sqnr(f64),
    /// Top-1 on these samples at most so many points below that of the float network.
    Drop(f64, &'a dyn Samples),
}

/// What a network may take; `None` is any.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of RAM.
    pub ram_bytes: Option<usize>,
    /// Bytes of constants.
    pub constant_bytes: Option<usize>,
    /// As [`Cost::macs`].
    pub macs: Option<u64>,
    /// The same as shares of what the network takes as it is, in place of those that are not given.
    pub share: Option<[f64; 3]>,
}

/// What a network takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of RAM on the target.
    pub ram_bytes: usize,
    /// Bytes of constants.
    pub constant_bytes: usize,
    /// Multiply-accumulates: one with 16 bits on either side counts twice, and twice where its sum has 64 bits.
    pub macs: u64,
}

/// What happens in a search.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// Of the changes of single units so many are measured, of how many.
    Measured(usize, usize),
    /// A step is made,
    Step(&'e TuneStep),
    /// and this much of the way, as far as can be told: of how much.
    Searching(usize, usize),
    /// The network is quantized with all steps, to see what it really is.
    Quantizing,
}

/// What has a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitKind {
    /// A value, and those that hold the same codes.
    Activations,
    /// The weights of a layer.
    Weights,
}

/// One width that changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WidthChange {
    /// Name of the value or the layer.
    pub name: String,
    /// Which of both.
    pub kind: UnitKind,
    /// Bits before,
    pub from: u32,
    /// and after.
    pub to: u32,
}

/// A step of the search, and where it leads: a row of the table of what is exact and what it costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TuneStep {
    /// What changes; nothing at the start.
    pub changes: Vec<WidthChange>,
    /// Signal to noise of the outputs, in the simulation.
    pub sqnr_db: f64,
    /// What it takes.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What a search has come to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tuned {
    /// From the network as it is asked for to the end.
    pub steps: Vec<TuneStep>,
    /// The rules that give the result, with those that were there.
    pub rules: Vec<Rule>,
    /// The result.
    pub quantized: Quantized,
    /// Its signal to noise on the samples that are measured, by the engine.
    pub sqnr_db: f64,
    /// What it takes.
    pub cost: Cost,
    /// Top-1 of the float network and of the result, if the goal is a drop.
    pub top1: Option<[f64; 2]>,
    /// Samples that are measured.
    pub samples: usize,
    /// Networks that were measured in this run.
    pub measured: usize,
}

/// Finds widths for the network of `quantizer`, calibrated, beginning with those that it asks for:
///
/// 1. while it takes more than the limits, narrows what loses least for what it saves;
/// 2. while the goal is not met, widens what wins most for what it costs, within the limits;
/// 3. where there is a goal, narrows what loses least for what it saves, as long as the goal is met;
/// 4. narrows one and widens others, where that is better than before;
/// 5. quantizes the result with all steps, and where the goal is missed by that goes on from 2 with a stricter one.
///
/// Each time the few that promise most are measured again, beside what was chosen before. The same arguments give the same
/// result, whatever of it was measured in earlier runs.
///
/// # Errors
/// A goal or a limit that cannot be reached, with the best that was; those of quantization.
pub fn tune(quantizer: &Quantizer, options: &Options) -> Result<Tuned> {
    for (what, widths, known) in [
        ("activations", &options.activations, &[Width::W8, Width::W16][..]),
        ("weights", &options.weights, Width::OF_WEIGHTS),
    ] {
        if let Some(other) = widths.iter().find(|width| !known.contains(width)) {
            bail!(Unsupported, "{what} of {other} bits");
        }
    }
    Search::new(quantizer, options)?.run()
}

/// `e`, an energy of the error against that of the signal, in dB.
fn db(e: f32) -> f64 {
    match e {
        0.0 => crate::quant::Sqnr::EXACT_DB,
        e => -10.0 * (e as f64).log10(),
    }
}
