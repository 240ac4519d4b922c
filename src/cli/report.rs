//! `--report` and `--model-explorer`, wherever a quantized network is judged.

use std::path::{Path, PathBuf};

use naive_ptq::analyze::Blame;
use naive_ptq::data::{Dataset, Samples, Workers, write_atomic};
use naive_ptq::graph::Graph;
use naive_ptq::onnx;
use naive_ptq::quantize::prepare;
use naive_ptq::report::Run;
use naive_ptq::{Quantized, Quantizer, Report, Result, Tensor};

/// Where a report is written.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Write a page that shows what was lost, where, why, and what would help; it takes as long as `blame`, and --json has its
    /// facts under "report"
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write the share of the error of each node as node data for Google's Model Explorer
    #[arg(long, value_name = "FILE.json")]
    model_explorer: Option<PathBuf>,
}

impl ReportArgs {
    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.report.iter().chain(&self.model_explorer)
    }

    /// Whether there are any.
    pub fn is_wanted(&self) -> bool {
        self.paths().next().is_some()
    }

    /// Makes the report of `quantized` beside `float`, both prepared, and writes it; nothing if it is not wanted.
    pub fn make(
        &self,
        networks: [&Graph; 2],
        samples: &dyn Samples,
        known: Option<Blame>,
        run: Run,
        workers: Workers,
    ) -> anyhow::Result<Option<Report>> {
        if !self.is_wanted() {
            return Ok(None);
        }
        let report = Report::new(networks, samples, known, run, workers)?;
        if let Some(path) = &self.report {
            write_atomic(path, report.html().as_bytes())?;
        }
        if let Some(path) = &self.model_explorer {
            write_atomic(path, report.model_explorer().as_bytes())?;
        }
        Ok(Some(report))
    }
}

impl ReportArgs {
    /// Makes the report of what a quantizer has made, `files` [quantized, float], on the calibration samples, or on those of
    /// them that were kept; nothing if it is not wanted.
    pub fn of_quantized(
        &self,
        [output, model]: [&Path; 2],
        quantizer: &Quantizer,
        quantized: &Quantized,
        calib: Option<(&Path, &Dataset)>,
        workers: Workers,
    ) -> anyhow::Result<Option<Report>> {
        if !self.is_wanted() {
            return Ok(None);
        }
        let mut graph = onnx::import(quantized.to_onnx(), None)?;
        prepare(&mut graph)?;
        let kept = Kept(quantizer.observer().kept().map(<[_]>::to_vec).collect());
        let (path, samples) = match calib {
            Some((path, data)) => (path, data as &dyn Samples),
            None => (Path::new(""), &kept as _),
        };
        let run = Run {
            preprocess: quantizer.preprocess().cloned(),
            recipe: Some(quantizer.full_recipe()?),
            ..run_of(output, model, path)
        };
        self.make([&graph, &**quantizer.graph()], samples, None, run, workers)
    }
}

/// What was run: this command, on these files.
pub fn run_of(model: &Path, reference: &Path, data: &Path) -> Run {
    let name = |path: &Path| path.display().to_string();
    let arguments = std::env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned());
    Run {
        version: env!("NAIVE_PTQ_VERSION").into(),
        command: ["naive-ptq".into()].into_iter().chain(arguments).collect(),
        model: name(model),
        reference: name(reference),
        data: name(data),
        ..Run::default()
    }
}

/// Samples that calibration has kept.
struct Kept(Vec<Vec<Tensor<f32>>>);

impl Samples for Kept {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor<f32>>> {
        Ok(self.0[i].clone())
    }
}
