//! The page: one file, readable without a network and without a program in it.

use super::facts::{Answers, Codes, Confusion, Layer, Report, Verdict};
use super::html::{Number, Table, label, name, text};
use super::remedy::line;
use super::svg::{self, Row};
use crate::analyze::{Cause, CauseKind, UnitBlame};

/// Classes of which all confusions are shown,
const SQUARE: usize = 20;
/// and mistakes that are listed of more.
const LISTED: usize = 20;
/// Rows of a piece of the graph.
const PIECE: usize = 30;
/// Layers that are open at first.
const OPEN: usize = 2;

const STYLE: &str = include_str!("style.css");

impl Report {
    /// The page.
    pub fn html(&self) -> String {
        let title =
            format!("{}: {}", text(&self.network), label("what quantization costs", "量化的代价"));
        let plain_title = text(&self.network);
        let sections = [
            ("input", label("Input", "输入"), self.inputs_html()),
            ("graph", label("Graph", "网络图"), self.graph_html()),
            ("layers", label("Loss by layer", "各层损失"), self.layers_html()),
            ("causes", label("Causes and remedies", "原因与对策"), self.causes_html()),
            ("answers", label("Answers", "回答"), self.answers_html()),
            ("device", label("On a device", "设备资源"), self.device_html()),
            ("run", label("What was run", "运行信息"), self.run_html()),
        ];
        let links: String =
            sections.iter().map(|(id, head, _)| format!("<a href=\"#{id}\">{head}</a>")).collect();
        let body: String = sections
            .iter()
            .map(|(id, head, body)| {
                format!("<section id=\"{id}\"><h2>{head}</h2>{body}</section>\n")
            })
            .collect();
        let verdict = self.verdict_html();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{plain_title}</title>\n\
             <style>{STYLE}</style></head>\n<body>\n<header><nav>{links}</nav>{CHOICES}<h1>{title}</h1>{verdict}</header>\n\
             <main>\n{body}</main>\n</body></html>\n"
        )
    }

    fn verdict_html(&self) -> String {
        let (class, english, chinese) = match self.verdict {
            Verdict::Good => ("good", "Good", "良好"),
            Verdict::Fair => ("fair", "Fair", "尚可"),
            Verdict::Poor => ("poor", "Poor", "较差"),
        };
        let it = &self.evaluation;
        let (mut en, mut zh) = (Vec::new(), Vec::new());
        let samples = Number::count(it.samples).html();
        if let Some(share) = it.agreement.map(|share| Number::percent(share).html()) {
            en.push(format!("{share} of the answers are the float network's"));
            zh.push(format!("{share} 的回答与浮点网络一致"));
        }
        if let Some(ours) = it.top1.map(|share| Number::percent(share).html()) {
            let float = it.reference_top1.map(|share| Number::percent(share).html());
            let float = float.unwrap_or_default();
            en.push(format!("top-1 is {ours}, that of the float network {float}"));
            zh.push(format!("top-1 为 {ours}，浮点网络为 {float}"));
        }
        if let Some(db) = it.output_sqnr_db.map(|db| Number::db(db).html()) {
            en.push(format!("the output has {db}"));
            zh.push(format!("输出信噪比为 {db}"));
        }
        if let Some(cause) = self.blame.named().next() {
            let (at, kind) = (name(&cause.at), kind(cause.kind));
            en.push(format!("most is lost at {at}: {}", kind.0));
            zh.push(format!("主要损失在 {at}：{}", kind.1));
        }
        let (en, zh) = (en.join(", "), zh.join("，"));
        let sentence = label(
            &format!("<b>{english}</b>: on {samples} samples {en}."),
            &format!("<b>{chinese}</b>：在 {samples} 个样本上，{zh}。"),
        );
        format!("<p class=\"verdict {class}\">{sentence}</p>")
    }

    fn inputs_html(&self) -> String {
        let one = |input: &super::Input| {
            let picture = |picture: &super::Picture| {
                let tall = 112.min(picture.height * (112 / picture.width.max(1)).max(1)).max(24);
                format!("<img src=\"{}\" height=\"{tall}\" alt=\"\">", picture.address())
            };
            let pictures: String = input.pictures.iter().map(picture).collect();
            let codes = self.codes(&input.name).map(|codes| self.codes_html(codes));
            format!(
                "<h3>{} {}</h3><div class=\"pictures\">{pictures}</div><div class=\"figures\">{}</div>",
                name(&input.name),
                shape(&input.shape),
                codes.unwrap_or_default()
            )
        };
        let note = label(
            "The first samples as the network sees them: after preprocessing, as its codes hold them, from black to white.",
            "网络所见的前几个样本：预处理之后，按其编码显示，由黑到白。",
        );
        let each: String = self.inputs.iter().map(one).collect();
        format!("<p>{note}</p>{each}")
    }

    fn codes(&self, name: &str) -> Option<&Codes> {
        self.values.iter().find(|codes| codes.name == name)
    }

    /// Histogram and cuts, and codes used by channels.
    fn codes_html(&self, codes: &Codes) -> String {
        let histogram = svg::histogram(&codes.seen, Some([codes.lo, codes.hi])).svg(&codes.name);
        let [scale, zero] = [Number::scale(codes.scale), Number::count(codes.zero_point)];
        let caption = label(
            &format!(
                "Numbers before rounding, logarithm of their counts; the lines are what the first and the last of the codes of {} bits \
                 stand for, scale {}, zero point {}; {} beyond them",
                codes.bits_html(),
                scale.html(),
                zero.html(),
                Number::percent(codes.beyond).html()
            ),
            &format!(
                "舍入前的数值分布（对数计数）；竖线为 {} 位编码的两端，缩放 {}，零点 {}；超出者 {}",
                codes.bits_html(),
                scale.html(),
                zero.html(),
                Number::percent(codes.beyond).html()
            ),
        );
        let mut html = figure(&histogram, &caption);
        if codes.used.len() > 1 {
            let most = codes.used.iter().copied().max().unwrap_or(1);
            let least = codes.used.iter().copied().min().unwrap_or(0);
            let columns = svg::columns(codes.used.iter().map(|&n| f64::from(n)), f64::from(most));
            let [channels, least, most] =
                [Number::count(codes.used.len()), Number::count(least), Number::count(most)]
                    .map(|n| n.html());
            let caption = label(
                &format!(
                    "Codes used by each of {channels} channels, from the lowest to the highest: {least} to {most}"
                ),
                &format!("{channels} 个通道各自使用的编码数（最低到最高）：{least} 到 {most}"),
            );
            html += &figure(&columns.svg(&codes.name), &caption);
        }
        html
    }

    fn weights_html(&self, layer: &Layer) -> String {
        let Some(weights) = &layer.weights else { return String::new() };
        let largest = || weights.largest.iter().copied();
        let most = largest().fold(0.0, f64::max);
        let least = largest().fold(f64::INFINITY, f64::min);
        let fewest = weights.codes.iter().copied().min().unwrap_or(0);
        let columns =
            svg::columns(largest().collect::<Vec<_>>().into_iter(), most).svg(&layer.name);
        let [channels, bits, fewest] = [
            Number::count(weights.largest.len()),
            Number::count(weights.bits),
            Number::count(fewest),
        ]
        .map(|n| n.html());
        let [least, most] = [least, most].map(|x| Number::real(x).html());
        let caption = label(
            &format!(
                "The largest weight of each of {channels} channels, {least} to {most}, as codes of {bits} bits; that of the channel \
                 with the fewest is {fewest}"
            ),
            &format!(
                "{channels} 个通道各自的最大权重，{least} 到 {most}，编码 {bits} 位；编码最少的通道其最大编码为 {fewest}"
            ),
        );
        figure(&columns, &caption)
    }

    fn units<'a>(
        &'a self,
        value: &'a str,
        layer: Option<&'a str>,
    ) -> impl Iterator<Item = &'a UnitBlame> {
        self.blame.units.iter().filter(move |unit| match unit.constants {
            true => layer == Some(&unit.name),
            false => unit.name == value,
        })
    }

    /// Inputs and nodes: title, value, node, loss.
    fn rows(&self) -> Vec<(String, &str, Option<&Layer>, f64)> {
        let input = |input: &'_ super::Input| {
            let share = self.units(&input.name, None).map(|unit| unit.share).next();
            (share, input.name.clone())
        };
        let inputs = self.inputs.iter().map(|it| {
            let (share, title) = input(it);
            (title, &*it.name, None, share.unwrap_or_default())
        });
        let nodes = self.nodes.iter().map(|node| {
            (format!("{} {}", node.operator, node.name), &*node.output, Some(node), node.share)
        });
        inputs.chain(nodes).collect()
    }

    fn graph_html(&self) -> String {
        let rows = self.rows();
        let most = rows.iter().map(|row| row.3).fold(1e-9, f64::max);
        let place = |value: &str| rows.iter().position(|row| row.1 == value);
        let drawn = rows.iter().enumerate().map(|(i, (title, value, node, share))| {
            let codes = self.codes(value);
            let scale = codes.map_or(String::new(), |codes| Number::scale(codes.scale).svg());
            let refused = node.is_some_and(|node| !node.refused_by.is_empty());
            let reads = node.iter().flat_map(|node| &node.inputs).filter_map(|v| place(v));
            Row {
                title: title.clone(),
                beside: format!("{} · {scale}", Number::percent(*share).svg()),
                heat: (share / most).max(0.0).sqrt(),
                refused,
                link: format!("layer-{i}"),
                reads: reads.filter(|&from| from < i).collect(),
            }
        });
        let pieces = svg::graph(&drawn.collect::<Vec<_>>(), PIECE);
        let pieces: String = pieces.iter().map(|piece| piece.svg(&self.network)).collect();
        let note = label(
            "Darker boxes lose more. Beside each: its share of the error of the output, and the scale of its result. A click leads to the \
             layer. Dashed boxes are refused by a target.",
            "颜色越深损失越大。旁注：占输出误差的份额，以及结果的缩放。点击查看该层。虚线框表示某个目标不支持。",
        );
        let mut refused = String::new();
        for coverage in self.coverage.iter().filter(|coverage| !coverage.refused.is_empty()) {
            let reasons: String = coverage
                .refused
                .iter()
                .map(|it| format!("<li>{}</li>", said(&it.reason)))
                .collect();
            refused += &format!("<p><b>{}</b></p><ul>{reasons}</ul>", text(coverage.target));
        }
        format!("<p>{note}</p><div class=\"graph\">{pieces}</div>{refused}")
    }

    fn layers_html(&self) -> String {
        let rows = self.rows();
        let most = rows.iter().map(|row| row.3).fold(1e-9, f64::max);
        let mut worst: Vec<usize> = (0..rows.len()).collect();
        worst.sort_by(|&a, &b| rows[b].3.total_cmp(&rows[a].3));
        let one = |(rank, &i): (usize, &usize)| {
            let (_, value, node, share) = &rows[i];
            let (shown, operator) = match node {
                Some(node) => (name(&node.name), text(node.operator)),
                None => (name(value), label("input", "输入")),
            };
            let open = if rank < OPEN { " open" } else { "" };
            let meter = svg::meter(share / most).svg("");
            let share = Number::percent(*share).html();
            let mut figures =
                self.codes(value).map_or(String::new(), |codes| self.codes_html(codes));
            figures += &node.map_or(String::new(), |node| self.weights_html(node));
            let units = self.units_html(value, *node);
            format!(
                "<details{open}><summary>{meter}<span>{share}</span><span>{operator}</span>{shown}</summary>\
                 <div id=\"layer-{i}\">{units}<div class=\"figures\">{figures}</div></div></details>\n"
            )
        };
        let note = label(
            "The share of the error of the output that is gone without a layer's rounding, constants and result together, worst first. \
             Enter or a click shows why.",
            "去掉某层（常量与结果）的舍入后，输出误差减少的份额；最差者在前。按回车或点击查看详情。",
        );
        let [units, classes] =
            [self.blame.units_sum, self.blame.classes_sum].map(|sum| Number::percent(sum).html());
        let sums = label(
            &format!("All shares add up to {units}, those of whole kinds of layers to {classes}."),
            &format!("各份额之和为 {units}，按类别合计为 {classes}。"),
        );
        let notes: String =
            self.blame.notes.iter().map(|note| format!("<li>{}</li>", said(note))).collect();
        let each: String = worst.iter().enumerate().map(one).collect();
        format!("<p>{note} {sums}</p><ul>{notes}</ul>{each}{}", self.classes_html())
    }

    fn units_html(&self, value: &str, node: Option<&Layer>) -> String {
        let mut table = Table::new(&[
            label("of", "对象"),
            label("share", "份额"),
            label("gain", "增益"),
            label("alone", "单独"),
            label("accumulated", "累积"),
        ]);
        let mut causes = String::new();
        for unit in self.units(value, node.map(|node| &*node.name)) {
            let of = match unit.constants {
                true => label("constants", "常量"),
                false => label("result", "结果"),
            };
            table.row([
                of,
                Number::percent(unit.share).html(),
                Number::gain(unit.gain_db, "dB").html(),
                Number::db(unit.alone_db).html(),
                unit.accumulated_db.map_or(String::new(), |db| Number::db(db).html()),
            ]);
            for Cause { kind: it, what, remedy, gain_db, .. } in &unit.causes {
                let (english, chinese) = kind(*it);
                let gain = Number::gain(*gain_db, "dB").html();
                let kind = label(english, chinese);
                causes +=
                    &format!("<li>{gain} <b>{kind}</b>: {}. {}</li>", said(what), said(remedy));
            }
        }
        format!("{}<ul>{causes}</ul>", table.html())
    }

    fn classes_html(&self) -> String {
        let mut table = Table::new(&[
            label("kind", "类别"),
            label("units", "个数"),
            label("share", "份额"),
            label("gain", "增益"),
        ]);
        for class in &self.blame.classes {
            table.row([
                said(&class.class),
                Number::count(class.units).html(),
                Number::percent(class.share).html(),
                Number::gain(class.gain_db, "dB").html(),
            ]);
        }
        let samples = Number::count(self.blame.samples).html();
        let simulation = Number::db(self.blame.simulation_db).html();
        let note = label(
            &format!(
                "Measured on {samples} samples, in a simulation that is the engine but for {simulation}."
            ),
            &format!("在 {samples} 个样本上以仿真测得，仿真与引擎之差为 {simulation}。"),
        );
        format!("<h3>{}</h3>{}<p>{note}</p>", label("By kind", "按类别"), table.html())
    }

    fn causes_html(&self) -> String {
        if self.blame.causes.is_empty() {
            return format!("<p>{}</p>", label("None was found.", "未发现。"));
        }
        let with_points = self.blame.causes.iter().any(|cause| cause.points.is_some());
        let mut heads = vec![label("at", "位置"), label("cause", "原因"), label("gain", "增益")];
        heads.extend(with_points.then(|| label("points of top-1", "top-1 点数")));
        heads.push(label("remedy, and how to apply it", "对策与命令"));
        let mut table = Table::new(&heads);
        for (cause, command) in self.blame.causes.iter().zip(&self.commands) {
            let (english, chinese) = kind(cause.kind);
            let mut kind = label(english, chinese);
            if cause.named {
                kind = format!("<b>{kind}</b>");
            }
            let mut cells = vec![
                name(&cause.at),
                format!("{kind}<br>{}", said(&cause.what)),
                Number::gain(cause.gain_db, "dB").html(),
            ];
            if with_points {
                cells.push(cause.points.map_or(String::new(), |it| Number::gain(it, "").html()));
            }
            let open = if cause.named { " open" } else { "" };
            let summary = label("command", "命令");
            let command = command.as_ref().map(|it| {
                let it = text_of_lines(it);
                format!("<details{open}><summary>{summary}</summary><pre>{it}</pre></details>")
            });
            cells.push(format!("{}{}", said(&cause.remedy), command.unwrap_or_default()));
            table.row(cells);
        }
        let note = match self.blame.named().next() {
            Some(_) => label(
                "In bold what the loss comes from: without it a third of the error or more is gone. Each gain is measured.",
                "粗体为损失的主因：去掉后误差至少减少三分之一。各增益均为实测。",
            ),
            None => label(
                "No single cause: the loss is spread over many, or small. Each gain is measured.",
                "没有单一主因：损失分散或很小。各增益均为实测。",
            ),
        };
        format!("<p>{note}</p>{}", table.html())
    }

    fn answers_html(&self) -> String {
        let mut html = String::new();
        if let Some(answers) = &self.answers {
            let [changed, rows] =
                [Number::count(answers.changed), Number::count(answers.rows)].map(|n| n.html());
            let note = label(
                &format!(
                    "{changed} of {rows} answers changed. A margin is by how much an answer is above the next one, or above the one before."
                ),
                &format!(
                    "{rows} 个回答中有 {changed} 个改变。边距为该回答高出次高者（或原回答）的数值。"
                ),
            );
            html += &format!("<p>{note}</p>{}{}", changed_html(answers), confusion_html(answers));
        }
        let mut table = Table::new(&[
            label("output", "输出"),
            label("part", "部分"),
            "SQNR".into(),
            label("mean error", "平均误差"),
            label("largest error", "最大误差"),
        ]);
        let real = |x: Option<f64>| x.map_or(String::new(), |x| Number::real(x).html());
        for output in &self.evaluation.outputs {
            table.row([
                name(&output.output),
                output.part.as_ref().map_or(String::new(), |part| name(part)),
                output.sqnr_db.map_or(String::new(), |db| Number::db(db).html()),
                real(output.mean_error),
                real(output.largest_error),
            ]);
        }
        let notes: String =
            self.evaluation.notes.iter().map(|note| format!("<li>{}</li>", said(note))).collect();
        format!("{html}{}<ul>{notes}</ul>", table.html())
    }

    fn device_html(&self) -> String {
        let memory = &self.memory;
        let map = svg::memory(&memory.blocks, memory.steps, memory.size, memory.bound).svg("RAM");
        let [size, bound, steps, constants] =
            [memory.size, memory.bound, memory.steps, memory.constant_bytes]
                .map(|n| Number::count(n).html());
        let caption = label(
            &format!(
                "RAM of the generated C: {size} bytes, and no plan needs less than {bound} (the line). Time goes from left to right, \
                 {steps} steps; bytes go up."
            ),
            &format!(
                "生成的 C 代码所需内存：{size} 字节，任何方案都不少于 {bound}（横线）。时间从左到右共 {steps} 步，字节向上。"
            ),
        );
        let mut table = Table::new(&[
            label("layer", "层"),
            label("operator", "算子"),
            "MAC".into(),
            label("flash bytes", "闪存字节"),
            String::new(),
            label("accumulator, at most", "累加器上界"),
            label("of the limit", "占上限"),
            label("bits", "位"),
        ]);
        let most = self.nodes.iter().map(|node| node.flash_bytes).max().unwrap_or(0).max(1);
        for node in &self.nodes {
            let bound = node.accumulator;
            let of_bound = |show: fn(&super::Bound) -> Number| {
                bound.as_ref().map_or(String::new(), |it| show(it).html())
            };
            table.row([
                name(&node.name),
                text(node.operator),
                Number::count(node.macs).html(),
                Number::count(node.flash_bytes).html(),
                svg::meter(node.flash_bytes as f64 / most as f64).svg(""),
                of_bound(|it| Number::count(it.bound)),
                of_bound(|it| Number::percent(it.share)),
                of_bound(|it| Number::count(it.bits)),
            ]);
        }
        let flash = label(
            &format!("Constants: {constants} bytes of flash."),
            &format!("常量：{constants} 字节闪存。"),
        );
        format!(
            "<div class=\"wide\" tabindex=\"0\">{}</div><p>{flash}</p>{}",
            figure(&map, &caption),
            table.html()
        )
    }

    fn run_html(&self) -> String {
        let run = &self.run;
        // As `--json` prints it.
        let json = |value: serde_json::Result<serde_json::Value>| {
            let json = value.map(|value| format!("{value:#}")).unwrap_or_default();
            format!("<pre class=\"json\">{}</pre>", text_of_lines(&json))
        };
        let mut table = Table::new(&[]);
        let mut row = |head: String, cell: String| table.row([head, cell]);
        row(label("version", "版本"), said(&run.version));
        row(label("command", "命令"), format!("<pre>{}</pre>", text_of_lines(&line(&run.command))));
        row(label("model", "模型"), said(&run.model));
        row(label("float model", "浮点模型"), said(&run.reference));
        row(
            label("samples", "样本"),
            format!("{} × {}", Number::count(run.samples).html(), said(&run.data)),
        );
        row(label("hash of the samples", "样本哈希"), said(&run.data_hash));
        if let Some(preprocess) = &run.preprocess {
            row(label("preprocessing", "预处理"), json(serde_json::to_value(preprocess)));
        }
        if let Some(recipe) = &run.recipe {
            row(label("recipe", "配方"), json(serde_json::to_value(recipe)));
        }
        table.html()
    }
}

impl Codes {
    fn bits_html(&self) -> String {
        Number::count(self.bits).html()
    }
}

/// Language and colours, by what is checked: no program is needed.
const CHOICES: &str = "<form class=\"choices\">\
    <fieldset><input type=\"radio\" name=\"lang\" id=\"en\" checked><label for=\"en\">English</label>\
    <input type=\"radio\" name=\"lang\" id=\"zh\"><label for=\"zh\" lang=\"zh-Hans\">中文</label></fieldset>\
    <fieldset><input type=\"radio\" name=\"theme\" id=\"auto\" checked><label for=\"auto\">◐</label>\
    <input type=\"radio\" name=\"theme\" id=\"light\"><label for=\"light\">☀</label>\
    <input type=\"radio\" name=\"theme\" id=\"dark\"><label for=\"dark\">☾</label></fieldset></form>";

fn kind(kind: CauseKind) -> (&'static str, &'static str) {
    match kind {
        CauseKind::Preprocessing => ("preprocessing", "预处理"),
        CauseKind::Clipping => ("clipping", "截断"),
        CauseKind::CoarseStep => ("step too coarse", "步长过粗"),
        CauseKind::ScaleRatio => ("ratio of scales", "缩放比例悬殊"),
        CauseKind::DeadCodes => ("dead channels", "失效通道"),
        CauseKind::ActivationImbalance => ("imbalance of activations", "激活通道失衡"),
        CauseKind::BiasLimit => ("bias at its limit", "偏置达上限"),
        CauseKind::BiasShift => ("bias shift", "偏置偏移"),
        CauseKind::WeightImbalance => ("imbalance of weights", "权重通道失衡"),
        CauseKind::CoarseWeights => ("weights too coarse", "权重过粗"),
    }
}

/// What the library says in words.
fn said(what: &str) -> String {
    format!("<span class=\"said\">{}</span>", text(what))
}

fn text_of_lines(lines: &str) -> String {
    lines.lines().map(text).collect::<Vec<_>>().join("\n")
}

fn figure(svg: &str, caption: &str) -> String {
    format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>")
}

fn shape(shape: &[usize]) -> String {
    shape.iter().map(|&size| Number::count(size).html()).collect::<Vec<_>>().join("×")
}

/// A class by its name, if it has one.
fn class(answers: &Answers, class: usize) -> String {
    answers.classes.get(class).map_or_else(|| Number::count(class).html(), |it| name(it))
}

fn changed_html(answers: &Answers) -> String {
    if answers.samples.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        label("sample", "样本"),
        label("label", "标签"),
        label("float", "浮点"),
        label("margin", "边距"),
        label("now", "现在"),
        label("margin", "边距"),
    ]);
    for it in &answers.samples {
        table.row([
            Number::count(it.sample).html(),
            it.label.map_or(String::new(), |label| class(answers, label)),
            class(answers, it.float),
            Number::real(it.float_margin).html(),
            class(answers, it.ours),
            Number::real(it.margin).html(),
        ]);
    }
    table.html()
}

fn confusion_html(answers: &Answers) -> String {
    let all = &answers.confusion;
    let classes = all.iter().map(|it| it.expected.max(it.answer) + 1).max().unwrap_or(0);
    let expected = match answers.labelled {
        true => label("label", "标签"),
        false => label("float network", "浮点网络"),
    };
    let head = format!("{expected} ↓ {}", label("answer →", "回答 →"));
    let title = format!("<h3>{}</h3>", label("Confusion", "混淆"));
    let mistakes = || all.iter().filter(|it| it.expected != it.answer);
    if mistakes().next().is_none() {
        return String::new();
    }
    if classes > SQUARE {
        let mut table = Table::new(&[expected, label("answer", "回答"), label("count", "次数")]);
        for Confusion { expected, answer, count } in mistakes().take(LISTED) {
            table.row([
                class(answers, *expected),
                class(answers, *answer),
                Number::count(count).html(),
            ]);
        }
        return title + &table.html();
    }
    let heads: Vec<String> = (0..classes).map(|it| class(answers, it)).collect();
    let most = mistakes().map(|it| it.count).max().unwrap_or(1);
    let mut table = Table::new(&[vec![head], heads.clone()].concat());
    for (expected, head) in heads.into_iter().enumerate() {
        let cell = |answer: usize| {
            let found = all.iter().find(|it| (it.expected, it.answer) == (expected, answer));
            found.map_or(String::new(), |it| {
                let heat = if expected == answer { 0 } else { 100 * it.count / most };
                format!(
                    "<span class=\"cell\" style=\"--heat:{heat}%\">{}</span>",
                    Number::count(it.count).html()
                )
            })
        };
        table.row([format!("<b>{head}</b>")].into_iter().chain((0..classes).map(cell)));
    }
    title + &table.html()
}
