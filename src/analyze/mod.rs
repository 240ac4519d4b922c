//! What quantization costs: accuracy, agreement with the float network, signal-to-noise ratio.

mod blame;
mod coverage;
mod evaluation;
mod inspect;
mod layers;

pub use crate::quant::Sqnr;
pub use blame::{Apply, Blame, Cause, CauseKind, ClassBlame, UnitBlame, blame};
pub(crate) use blame::{Change, Simulation, channel_axis, of_values};
pub use coverage::{Coverage, Refusal, coverage};
pub use evaluation::{Evaluation, Labelled, OutputEvaluation};
pub(crate) use evaluation::{Part, Seen};

use crate::tensor::Tensor;

pub use layers::{LayerLoss, layer_losses};

pub use inspect::{Inspection, LayerReport, LoweredReport, QuantReport, Ram, ValueReport};

/// Index of the largest element, the first of equals.
pub fn argmax(x: &Tensor<f32>) -> usize {
    let x = x.data();
    (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IGNORED;
    use crate::graph::ValueId;
    use crate::ops::Op;
    use crate::ops::add::Add;
    use crate::ops::clip::Clip;
    use crate::ops::concat::Concat;
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
        let (ours, of_float) = ([names(a), names(y)], [names(y), names(a)]);
        let [ours, of_float] = [&ours, &of_float].map(|names| names.each_ref().map(|n| n.as_str()));
        let parts = Part::of(&ours, Some(&of_float), Some(&graph));
        let tensor = |x: &[f32], columns| Tensor::new([2, columns], x.to_vec()).unwrap();
        let reference = [tensor(&[9.0, 1.0, 1.0, 9.0, 1.0, 1.0], 3), tensor(&[9.0; 2], 1)];
        let ours = [tensor(&[9.0, 0.0], 1), tensor(&[9.0, 0.9, 1.1, 9.0, 1.1, 0.9], 3)];
        let judged = parts.into_iter().map(|part| {
            let seen = part.see(&ours, Some(&reference), None).unwrap();
            let OutputEvaluation { output, part, sqnr_db, .. } = part.judge(&seen);
            (output, part, sqnr_db.unwrap().round())
        });
        let judged: Vec<_> = judged.collect();
        let expected = [
            (names(a), None, 3.0),
            (names(y), None, 36.0),
            (names(y), Some(names(a)), Sqnr::EXACT_DB),
            (names(y), Some(names(b)), 20.0),
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
        let e = Evaluation::new(&outputs, Some(&[0, 1, 0, 0]), Some(&reference)).unwrap();
        assert_eq!((e.top1, e.reference_top1), (Some(0.75), Some(0.5)));
        assert_eq!(e.agreement, Some(0.75));
        let e = Evaluation::new(&outputs, None, None).unwrap();
        assert_eq!((e.top1, e.agreement, e.output_sqnr_db), (None, None, None));
    }

    fn judged(samples: &[(Tensor<f32>, &[usize])]) -> Evaluation {
        let parts = evaluation::Part::of(&["y"], None, None);
        let see = |(y, labels): &(Tensor<f32>, &[usize])| {
            vec![parts[0].see(std::slice::from_ref(y), None, Some(*labels)).unwrap()]
        };
        let each = samples.iter().map(see).collect();
        Evaluation::of(parts, each, true)
    }

    /// Places of classes 2, 0, 1, 2, of which the labels have three.
    #[test]
    fn maps_are_judged_in_either_layout_and_with_either_labels() {
        let found = [2, 0, 1, 2];
        let hot = |classes: [usize; 4], last: bool| -> Vec<usize> {
            let at = |i: usize| if last { (i / 3, i % 3) } else { (i % 4, i / 4) };
            (0..12).map(|i| usize::from(classes[at(i).0] == at(i).1)).collect()
        };
        for last in [false, true] {
            let shape = if last { [1, 2, 2, 3] } else { [1, 3, 2, 2] };
            let numbers = hot(found, last).into_iter().map(|one| one as f32 - 0.25).collect();
            let y = Tensor::new(shape, numbers).unwrap();
            let labels = [2, 0, 0, 2];
            for labels in [labels.to_vec(), hot(labels, false), hot(labels, true)] {
                let e = judged(&[(y.clone(), &labels)]);
                let labelled = e.outputs[0].labelled.as_ref().unwrap();
                assert_eq!(labelled.right, 0.75, "{shape:?} {labels:?}");
                assert!(labelled.mean_iou.is_some());
            }
            let e = judged(&[(y, &[2, IGNORED, 0, IGNORED])]);
            assert_eq!(e.outputs[0].labelled.as_ref().unwrap().right, 0.5);
            assert!(e.notes.contains(&"2 labels are -1, and left out".into()), "{:?}", e.notes);
        }
    }

    #[test]
    fn a_sigmoid_is_one_of_two_classes() {
        let y = |p: f32| Tensor::new([1, 1], vec![p]).unwrap();
        let e = judged(&[(y(0.9), &[1]), (y(0.4), &[0]), (y(0.5), &[0]), (y(0.1), &[IGNORED])]);
        assert_eq!(e.top1, Some(2.0 / 3.0));
        assert_eq!(judged(&[(y(0.9), &[3])]).top1, None);
    }
}
