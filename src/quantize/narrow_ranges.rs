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
    use crate::quant::Scheme;
    use crate::quantize::losses::MOST_CUT;
    use crate::quantize::prepare;
    use crate::testing::random_graphs::random_network;
    use crate::testing::{Rng, random_inputs};

    /// Ranges that are narrow leave out no more than others may, are taken where they win, and nowhere else.
    #[test]
    fn narrow_ranges_are_taken_where_they_win() {
        let (mut taken, mut left) = (0, 0);
        for seed in 0..40 {
            let mut graph = random_network(seed, 7);
            prepare(&mut graph).unwrap();
            let network = FloatExecutor::new(&graph);
            let mut observer = Observer::new(&graph);
            for i in 0..6 {
                let mut x = random_inputs(&graph, &mut Rng(seed ^ i << 32), 1.0);
                // A peak, now and then.
                x[0].data_mut()[0] *= if i == seed % 9 { 30.0 } else { 1.0 };
                observer.see_sample(&network, &x).unwrap();
            }
            let new = |calibrator| {
                Session::new(graph.clone(), &observer, calibrator, Scheme::default()).unwrap()
            };
            let mut fixed = new(Calibrator::MinMax);
            assert!(NarrowRanges.run(&mut fixed).unwrap().changes.is_empty());
            let before = new(Calibrator::Auto);
            let mut session = before.clone();
            let report = NarrowRanges.run(&mut session).unwrap();
            if report.changes.is_empty() {
                left += 1;
                assert_eq!(session.ranges, before.ranges, "seed {seed}");
                continue;
            }
            taken += 1;
            assert!(report.gain_db >= Some(WORTH_IT_DB), "seed {seed}: {report:?}");
            let judge = Judge::by(&before, observer.kept().collect()).unwrap();
            assert!(judge.sqnr_db(&session).unwrap() > judge.sqnr_db(&before).unwrap());
            for v in graph.activations().filter(|&v| session.ranges[v] != before.ranges[v]) {
                let params = session.params.values[v].as_ref().unwrap();
                let (lowest, highest) = params.code_range();
                let ends = [lowest, highest].map(|code| params.dequantize(code, 0));
                let cut = observer.histogram(v).unwrap().energy_beyond(ends[0], ends[1]);
                assert!(cut <= MOST_CUT, "seed {seed}: {cut}");
            }
        }
        assert!(taken > 0 && left > 0, "{taken} taken, {left} left");
    }
}
