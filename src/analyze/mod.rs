//! What quantization costs: accuracy, agreement with the float network, signal-to-noise ratio.

mod coverage;
mod inspect;

use serde::Serialize;

pub use crate::quant::Sqnr;
pub use coverage::{Coverage, Refusal, coverage};

use crate::graph::{Graph, ValueId};
use crate::ops::Op;
use crate::ops::concat::Concat;
use crate::tensor::Tensor;

pub use inspect::{Inspection, LayerReport, LoweredReport, QuantReport, Ram, ValueReport};

/// Index of the largest element, the first of equals.
pub fn argmax(x: &Tensor<f32>) -> usize {
    let x = x.data();
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

/// How a network did on labelled samples, and beside a reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Share of samples whose largest output is the label's; `None` without labels.
    pub top1: Option<f64>,
    /// The same of the reference.
    pub reference_top1: Option<f64>,
    /// Share of samples whose largest output is also the reference's.
    pub agreement: Option<f64>,
    /// [`Sqnr`] of the first output against the reference's.
    pub output_sqnr_db: Option<f64>,
    /// Of each output that the reference has, too, and of each part of it that a Concat of the reference joins, by
    /// itself.
    pub outputs: Vec<OutputSqnr>,
}

/// How near an output, or a part of it, is to the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OutputSqnr {
    /// Name of the output.
    pub output: String,
    /// Name of the part; `None` for the whole.
    pub part: Option<String>,
    /// Its [`Sqnr`].
    pub sqnr_db: f64,
}

/// An output, or a part of it that a Concat joins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// Places of the output among ours and among those of the reference.
    pub places: [usize; 2],
    /// The output, and the part.
    pub names: (String, Option<String>),
    /// Length of a line of the output, and where the part lies in it.
    pub line: usize,
    /// See `line`.
    pub within: std::ops::Range<usize>,
}

impl Part {
    /// Each output of `ours` that the float network has, too, and what makes it up there.
    pub fn of(ours: &[&str], float: &Graph) -> Vec<Self> {
        let mut parts = Vec::new();
        for (place, &v) in float.outputs.iter().enumerate() {
            let name = &float.values[v].name;
            let Some(our) = ours.iter().position(|our| our == name) else { continue };
            let whole =
                Self { places: [our, place], names: (name.clone(), None), line: 1, within: 0..1 };
            parts.push(whole.clone());
            let node = float.nodes.iter().find(|node| node.output == v);
            let Some((node, Op::Concat(Concat { axis }))) = node.map(|n| (n, &n.op)) else {
                continue;
            };
            let len = |v: ValueId| float.values[v].shape[*axis..].iter().product::<usize>();
            let mut begin = 0;
            for &argument in &node.inputs {
                let (names, end) =
                    (Some(float.values[argument].name.clone()), begin + len(argument));
                let names = (name.clone(), names);
                parts.push(Self { names, line: len(v), within: begin..end, ..whole.clone() });
                begin = end;
            }
        }
        parts
    }

    /// That of one sample's outputs; nothing if they differ in shape.
    pub fn sqnr(&self, ours: &[Tensor<f32>], reference: &[Tensor<f32>]) -> Sqnr {
        let (mut sqnr, [y, r]) = (Sqnr::default(), self.places);
        if ours[y].shape() == reference[r].shape() {
            let lines = [&ours[y], &reference[r]].map(|t| t.data().chunks(self.line.max(1)));
            let [ours, reference] = lines;
            for (y, r) in ours.zip(reference) {
                sqnr.add(&r[self.within.clone()], &y[self.within.clone()]);
            }
        }
        sqnr
    }
}

impl Evaluation {
    /// Compares outputs, one tensor for each sample, with labels and with a reference's outputs.
    pub fn new(
        outputs: &[Tensor<f32>],
        labels: Option<&[usize]>,
        reference: Option<&[Tensor<f32>]>,
    ) -> Self {
        let samples = outputs.len();
        let share = |hits: usize| hits as f64 / samples as f64;
        let top1 = |outputs: &[Tensor<f32>]| {
            let labels = labels?.iter();
            Some(share(outputs.iter().zip(labels).filter(|(y, l)| argmax(y) == **l).count()))
        };
        let pairs = reference.map(|reference| outputs.iter().zip(reference));
        let agree = |pairs: std::iter::Zip<_, std::slice::Iter<Tensor<f32>>>| {
            pairs.filter(|(y, r): &(&Tensor<f32>, _)| argmax(y) == argmax(r)).count()
        };
        let sqnr = pairs.clone().map(|pairs| {
            let mut sqnr = Sqnr::default();
            pairs.for_each(|(y, r)| sqnr.add(r.data(), y.data()));
            sqnr.db()
        });
        Self {
            samples,
            top1: top1(outputs),
            reference_top1: reference.and_then(top1),
            agreement: pairs.map(|pairs| share(agree(pairs))),
            output_sqnr_db: sqnr,
            outputs: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::add::Add;
    use crate::ops::clip::Clip;
    use crate::ops::prelu::PRelu;
    use crate::tensor::SEEN;
    use crate::testing::{Net, SCHEMES};

    #[test]
    fn sqnr_by_hand() {
        let mut sqnr = Sqnr::default();
        sqnr.add(&[10.0, 0.0], &[9.0, 0.0]);
        assert_eq!(sqnr.db(), 20.0);
        sqnr.add(&[0.0], &[3.0]);
        assert_eq!(sqnr.db(), 10.0);
        assert_eq!(Sqnr::default().db(), Sqnr::EXACT_DB);
    }

    #[test]
    fn parts_of_an_output_are_judged_by_themselves() {
        let mut net = Net::new(0);
        let (a, b) = (net.input(&[2, 1]), net.input(&[2, 2]));
        let y = net.node(Op::Concat(Concat { axis: 1 }), &[a, b]);
        let graph = net.finish(&[y, a]);
        let names = |v: ValueId| graph.values[v].name.clone();
        let parts = Part::of(&[&names(a), &names(y)], &graph);
        let tensor = |x: &[f32], columns| Tensor::new([2, columns], x.to_vec()).unwrap();
        let reference = [tensor(&[9.0, 1.0, 1.0, 9.0, 1.0, 1.0], 3), tensor(&[9.0; 2], 1)];
        let ours = [tensor(&[9.0, 0.0], 1), tensor(&[9.0, 0.9, 1.1, 9.0, 1.1, 0.9], 3)];
        let judged = parts.iter().map(|part| {
            let db = part.sqnr(&ours, &reference).db().round();
            (part.names.0.clone(), part.names.1.clone(), db)
        });
        let judged: Vec<_> = judged.collect();
        let expected = [
            (names(y), None, 36.0),
            (names(y), Some(names(a)), Sqnr::EXACT_DB),
            (names(y), Some(names(b)), 20.0),
            (names(a), None, 3.0),
        ];
        assert_eq!(judged, expected);
    }

    #[test]
    fn nodes_without_integer_form_are_named() {
        let mut net = Net::new(0);
        let (x, slope) = (net.input(&[4]), net.input(&[4]));
        let y = net.node(Op::PRelu(PRelu), &[x, slope]);
        let z = net.node(Op::Clip(Clip::RELU), &[y]);
        let graph = net.finish(&[z]);
        let found = coverage(&graph, SCHEMES[3], &[]).remove(0).refused;
        assert_eq!(found.len(), 1);
        let Refusal { node, reason } = &found[0];
        assert!(node == "n0" && reason.contains("must be a quantized constant"), "{found:?}");
    }

    #[test]
    fn nodes_behind_too_many_users_of_a_constant_are_named() {
        let mut net = Net::new(0);
        let (x, w) = (net.input(&[1 << 20]), net.constant(Tensor::from_vec(vec![1.0; 1 << 20])));
        let add = Op::Add(Add { subtract: false });
        let y = (0..1000).fold(x, |y, _| net.node(add.clone(), &[y, w]));
        let before = SEEN.get();
        let graph = net.finish(&[y]);
        let found = &coverage(&graph, SCHEMES[3], &[])[0].refused;
        let elements = SEEN.get() - before;
        assert!(elements < 1 << 30, "{elements} elements were looked at");
        assert_eq!((found.len(), &*found[0].node), (1000 - 65, "n65"));
        assert!(found[0].reason.contains("has too many users"), "{found:?}");
    }

    #[test]
    fn evaluation_by_hand() {
        let y = |a: f32, b: f32| Tensor::from_vec(vec![a, b]);
        let outputs = [y(1.0, 0.0), y(0.0, 1.0), y(1.0, 1.0), y(3.0, 4.0)];
        let reference = [y(1.0, 0.0), y(0.0, 1.0), y(0.0, 1.0), y(0.0, 1.0)];
        let e = Evaluation::new(&outputs, Some(&[0, 1, 0, 0]), Some(&reference));
        assert_eq!((e.top1, e.reference_top1), (Some(0.75), Some(0.5)));
        assert_eq!(e.agreement, Some(0.75));
        let e = Evaluation::new(&outputs, None, None);
        assert_eq!((e.top1, e.agreement, e.output_sqnr_db), (None, None, None));
    }
}
