//! Which of two ways to choose ranges serves the outputs.

use super::choose_params;
use super::judge::Judge;
use super::session::{Change, Report, Session, Step};
use crate::error::Result;
use crate::graph::ValueId;
use crate::quant::Range;

/// What is not better by so much stays as it is.
const WORTH_IT_DB: f64 = 0.3;

/// Where the calibrator is `auto`: the ranges that cost the readers of each value least, which are often wide ones, or
/// narrow ones for all values. What is nearer to the real outputs on the samples that calibration has kept.
#[derive(Clone, Copy, Debug)]
pub struct NarrowRanges;

impl Step for NarrowRanges {
    fn name(&self) -> &'static str {
        "narrow-ranges"
    }

    /// It judges itself, by all samples: it fits nothing to them.
    fn is_judged(&self) -> bool {
        false
    }

    fn run(&self, session: &mut Session) -> Result<Report> {
        let mut report = Report { step: self.name(), ..Report::default() };
        let mut narrow = Session { narrow: true, ..session.clone() };
        narrow.choose_ranges()?;
        let samples: Vec<_> = session.observer.kept().collect();
        if samples.is_empty() || narrow.ranges == session.ranges {
            return Ok(report);
        }
        narrow.params = choose_params(&narrow.graph, &narrow.ranges, &narrow.plan)?;
        let judge = Judge::by(session, samples)?;
        let gain = judge.sqnr_db(&narrow)? - judge.sqnr_db(session)?;
        if gain >= WORTH_IT_DB {
            report.gain_db = Some(gain);
            report.changes = changes(session, &narrow);
            *session = narrow;
        }
        Ok(report)
    }
}

/// The values whose range is another one, and how far their ends have moved.
fn changes(before: &Session, after: &Session) -> Vec<Change> {
    let graph = &before.graph;
    let node = |v: ValueId| graph.nodes.iter().find(|node| node.output == v);
    let ranges = before.ranges.iter().zip(&after.ranges).enumerate();
    let change = |(v, (&a, &b)): (ValueId, (&Option<Range>, &Option<Range>))| {
        let (a, b) = (a?, b?);
        let largest = (a.lo - b.lo).abs().max((a.hi - b.hi).abs());
        let node = node(v).map_or_else(String::new, |node| node.name.clone());
        let tensor = graph.values[v].name.clone();
        (largest > 0.0).then_some(Change { node, tensor, largest })
    };
    ranges.filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::{Calibrator, Observer};
    use crate::exec::float::FloatExecutor;
    use crate::graph::Graph;
    use crate::ops::conv::Conv;
    use crate::ops::unary::Unary;
    use crate::ops::{Op, Window};
    use crate::quant::Scheme;
    use crate::quantize::losses::MOST_CUT;
    use crate::tensor::Tensor;
    use crate::testing::{Net, Rng, random_inputs};

    const CHANNELS: usize = 64;

    /// Copies its channels, and adds them up, all but the first, which counts `first` times.
    fn network(first: f32) -> Graph {
        let mut net = Net::new(3);
        let x = net.input(&[1, CHANNELS, 4, 4]);
        let same = |i: usize| (i / CHANNELS == i % CHANNELS) as u8 as f32;
        let same = (0..CHANNELS * CHANNELS).map(same).collect();
        let same = net.constant(Tensor::new([CHANNELS, CHANNELS, 1, 1], same).unwrap());
        let mut sums = net.random(&[4, CHANNELS, 1, 1]);
        let mut weights = net.graph.real_constant(sums).unwrap().clone();
        weights.data_mut().iter_mut().step_by(CHANNELS).for_each(|w| *w = first);
        sums = net.constant(weights);
        let conv = || Op::Conv(Conv { window: Window::new([1, 1]), group: 1 });
        let v = net.node(Op::Unary(Unary::Neg), &[x]);
        let copy = net.node(conv(), &[v, same]);
        let y = net.node(conv(), &[copy, sums]);
        net.finish(&[y])
    }

    /// What 40 samples show, of which one has a peak in its first channel and is among those that `auto` looks at.
    fn observed(graph: &Graph) -> Observer {
        let network = FloatExecutor::new(graph);
        for attempt in 0..200 {
            let peak = 5.0 + attempt as f32 / 100.0;
            let mut observer = Observer::new(graph);
            for seed in 0..40 {
                let mut x = random_inputs(graph, &mut Rng(seed), 1.0);
                if seed == 7 {
                    x[0].data_mut()[3] = peak;
                }
                observer.see_sample(&network, &x).unwrap();
            }
            if observer.kept().take(4).any(|x| x[0].data()[3] == peak) {
                return observer;
            }
        }
        panic!("no peak is among the first samples");
    }

    /// What a peak costs its readers says nothing of what it costs the outputs.
    #[test]
    fn narrow_ranges_are_taken_where_they_win() {
        for (first, wins) in [(0.0, true), (4.0, false)] {
            let graph = network(first);
            let observer = observed(&graph);
            let new = |calibrator| {
                Session::new(graph.clone(), &observer, calibrator, Scheme::default()).unwrap()
            };
            let mut given = new(Calibrator::MinMax);
            assert!(NarrowRanges.run(&mut given).unwrap().changes.is_empty());
            let before = new(Calibrator::Auto);
            let mut session = before.clone();
            let report = NarrowRanges.run(&mut session).unwrap();
            let width =
                |session: &Session| session.ranges[graph.nodes[0].output].unwrap().max_abs();
            assert!(width(&before) > 4.5, "{}", width(&before));
            assert_eq!(!report.changes.is_empty(), wins, "{report:?}");
            assert_eq!(width(&session) < 2.0, wins);
            if wins {
                assert!(report.gain_db > Some(3.0), "{report:?}");
            }
        }
    }

    /// However much a percentile leaves out, what is chosen leaves out no more than may be.
    #[test]
    fn narrow_ranges_leave_out_little() {
        let graph = network(0.0);
        let network = FloatExecutor::new(&graph);
        let mut observer = Observer::new(&graph);
        for seed in 0..40 {
            let mut x = random_inputs(&graph, &mut Rng(seed), 1.0);
            if seed == 7 {
                x[0].data_mut()[3] = 60.0;
            }
            observer.see_sample(&network, &x).unwrap();
        }
        let session =
            Session::new(graph.clone(), &observer, Calibrator::Auto, Scheme::default()).unwrap();
        let mut narrow = Session { narrow: true, ..session };
        narrow.choose_ranges().unwrap();
        let v = graph.nodes[0].output;
        let seen = observer.histogram(v).unwrap();
        let cut = |range: Range| {
            let params = Scheme::default().activation(range);
            let (lowest, highest) = params.code_range();
            seen.energy_beyond(params.dequantize(lowest, 0), params.dequantize(highest, 0))
        };
        assert!(cut(Calibrator::Percentile(99.99).range(seen)) > MOST_CUT);
        let range = narrow.ranges[v].unwrap();
        assert!(cut(range) <= MOST_CUT && range.max_abs() < 0.99 * seen.range().max_abs());
    }
}
