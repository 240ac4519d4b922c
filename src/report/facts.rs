//! What a report says: numbers and names, which `--json` prints and the page shows.

use serde::Serialize;

use super::pixels::Picture;
use crate::analyze::{Blame, Coverage, Evaluation};
use crate::data::Preprocess;
use crate::quantize::Recipe;

/// A quantized network beside the float network, on samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What was run.
    pub run: Run,
    /// Name of the network.
    pub network: String,
    /// Whether it does as well as the float network.
    pub verdict: Verdict,
    /// How it does on all samples.
    pub evaluation: Evaluation,
    /// The answers that changed, of an output of classes.
    pub answers: Option<Answers>,
    /// What the caller gives.
    pub inputs: Vec<Input>,
    /// The nodes of the quantized network.
    pub nodes: Vec<Layer>,
    /// Its values, on the samples of `blame`.
    pub values: Vec<Codes>,
    /// What each value and layer costs, and why, on the first samples.
    pub blame: Blame,
    /// For each of its causes the command that applies the remedy, if there is one.
    pub commands: Vec<Option<String>>,
    /// What lies where in memory.
    pub memory: MemoryMap,
    /// Where it can run, and what is refused there.
    pub coverage: Vec<Coverage>,
}

/// What was run, for whoever wants to run it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    /// The version of this program.
    pub version: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The quantized model.
    pub model: String,
    /// The float model.
    pub reference: String,
    /// The samples,
    pub data: String,
    /// how many these are,
    pub samples: usize,
    /// a number for all of them, in any order, as 16 hexadecimal digits,
    pub data_hash: String,
    /// and how they were made.
    pub preprocess: Option<Preprocess>,
    /// All that was chosen, where the network was quantized just now.
    pub recipe: Option<Recipe>,
}

/// Whether a network does as well as the float network: by top-1 if there are labels, else by answers, else by the SQNR
/// of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// At most 1 point of top-1 is lost; 97 % of the answers agree; 25 dB.
    Good,
    /// At most 3 points are lost; 90 % of the answers agree; 15 dB.
    Fair,
    /// More is lost.
    Poor,
}

impl Verdict {
    pub(super) fn of(evaluation: &Evaluation) -> Self {
        let Evaluation { top1, reference_top1, agreement, output_sqnr_db, .. } = evaluation;
        let drop = top1.zip(*reference_top1).map(|(ours, float)| 100.0 * (float - ours));
        let at_least = |[good, fair]: [f64; 2], x: f64| match x {
            x if x >= good - 1e-9 => Self::Good,
            x if x >= fair - 1e-9 => Self::Fair,
            _ => Self::Poor,
        };
        match (drop, agreement, output_sqnr_db) {
            (Some(drop), _, _) => at_least([-1.0, -3.0], -drop),
            (None, Some(share), _) => at_least([97.0, 90.0], 100.0 * share),
            (None, None, db) => at_least([25.0, 15.0], db.unwrap_or_default()),
        }
    }
}

/// Counts of numbers in bars of one width.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bars {
    /// Where the first bar begins: the smallest number.
    pub lo: f64,
    /// Where the last one ends: the largest number.
    pub hi: f64,
    /// Numbers in each.
    pub counts: Vec<u64>,
}

/// An input of the network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// The first samples, as their codes show them.
    #[serde(skip)]
    pub pictures: Vec<Picture>,
}

/// A value, and what its codes are used for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Codes {
    /// Its name.
    pub name: String,
    /// Sizes of its axes.
    pub shape: Vec<usize>,
    /// Bits of a code.
    pub bits: u32,
    /// One step.
    pub scale: f64,
    /// The code of real 0.
    pub zero_point: i32,
    /// What the lowest code stands for,
    pub lo: f64,
    /// and the highest one.
    pub hi: f64,
    /// The numbers before they are rounded.
    pub seen: Bars,
    /// The share of them that is beyond all codes.
    pub beyond: f64,
    /// For each channel, codes from the lowest that is used to the highest.
    pub used: Vec<u32>,
}

/// A node of the quantized network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its operator.
    pub operator: &'static str,
    /// Names of the activations that it reads.
    pub inputs: Vec<String>,
    /// Name of its result.
    pub output: String,
    /// The share of the output's error that its constants and its result are to blame for.
    pub share: f64,
    /// Products that are summed.
    pub macs: u64,
    /// Bytes of its constants on a device.
    pub flash_bytes: usize,
    /// No input makes its accumulator larger than `bound`, which is `bound_share` of what `bits` can hold.
    pub accumulator: Option<Bound>,
    /// Its weights.
    pub weights: Option<Weights>,
    /// Targets that do not take it.
    pub refused_by: Vec<&'static str>,
}

/// How near an accumulator can come to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// The largest magnitude.
    pub bound: i64,
    /// Bits of the type.
    pub bits: u32,
    /// What part of the limit that is.
    pub share: f64,
}

/// Weights, channel by channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weights {
    /// Bits of a code.
    pub bits: u32,
    /// The largest magnitude of each channel,
    pub largest: Vec<f64>,
    /// and the largest one of its codes.
    pub codes: Vec<u32>,
}

/// The answers of an output of classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Answers {
    /// Name of the output.
    pub output: String,
    /// What the file calls the classes, if it does.
    pub classes: Vec<String>,
    /// Answers that were looked at.
    pub rows: usize,
    /// Those that are not the float network's.
    pub changed: usize,
    /// The first of them: those that the float network was surest of.
    pub samples: Vec<Changed>,
    /// Whether answers are expected by labels; by the float network's answers if not.
    pub labelled: bool,
    /// How often each answer is given where one is expected: all that occur, the most frequent mistakes first.
    pub confusion: Vec<Confusion>,
}

/// An answer that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// Number of the sample.
    pub sample: usize,
    /// What is right, if that is known.
    pub label: Option<usize>,
    /// The answer of the float network,
    pub float: usize,
    /// and by how much it is above the second one there.
    pub float_margin: f64,
    /// The answer now,
    pub ours: usize,
    /// and by how much it is above the float network's answer now.
    pub margin: f64,
}

/// How often an answer is given where another one, or the same, is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// The class of the label, or of the float network's answer.
    pub expected: usize,
    /// The class that is answered.
    pub answer: usize,
    /// How often.
    pub count: usize,
}

/// Where everything lies while the network runs as C.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MemoryMap {
    /// Bytes in all.
    pub size: usize,
    /// No plan needs less.
    pub bound: usize,
    /// Steps: the inputs are taken, each node is computed, the outputs are given.
    pub steps: usize,
    /// Bytes of constants.
    pub constant_bytes: usize,
    /// What takes bytes, and when.
    pub blocks: Vec<Block>,
}

/// Bytes of a value, or of the scratch memory of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    /// Name of the value or node.
    pub name: String,
    /// Whether it is scratch memory.
    pub scratch: bool,
    /// Where it begins.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
    /// The step that writes it,
    pub first: usize,
    /// and the last one that reads it.
    pub last: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_count_before_answers_and_answers_before_numbers() {
        let of = |drop: Option<f64>, agreement, output_sqnr_db| {
            let (top1, reference_top1) = (drop.map(|drop| 0.9 - drop), drop.map(|_| 0.9));
            let evaluation = Evaluation {
                top1,
                reference_top1,
                agreement,
                output_sqnr_db,
                ..Evaluation::default()
            };
            Verdict::of(&evaluation)
        };
        use Verdict::*;
        for (drop, expected) in
            [(-0.01, Good), (0.01, Good), (0.011, Fair), (0.03, Fair), (0.031, Poor)]
        {
            assert_eq!(of(Some(drop), Some(0.5), Some(0.0)), expected, "{drop}");
        }
        for (agreement, expected) in
            [(1.0, Good), (0.97, Good), (0.96, Fair), (0.9, Fair), (0.89, Poor)]
        {
            assert_eq!(of(None, Some(agreement), Some(0.0)), expected, "{agreement}");
        }
        for (db, expected) in [(25.0, Good), (24.0, Fair), (15.0, Fair), (14.0, Poor)] {
            assert_eq!(of(None, None, Some(db)), expected, "{db}");
        }
    }
}
