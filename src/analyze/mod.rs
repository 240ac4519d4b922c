//! What quantization costs: accuracy, agreement with the float network, signal-to-noise ratio.

mod coverage;
mod inspect;

use serde::Serialize;

pub use crate::quant::Sqnr;
pub use coverage::{Coverage, Refusal, coverage};

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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
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
