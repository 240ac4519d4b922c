//! Figures: each function makes one drawing of numbers that it is given. Colours are those of the page's style, by class.

use std::fmt::{Display, Write};

use super::facts::{Bars, Block};
use super::html::{Number, text};

/// A drawing that grows.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    origin: f64,
    width: f64,
    height: f64,
    body: String,
}

/// A coordinate, to a tenth.
fn at(x: f64) -> impl Display {
    (10.0 * x).round() / 10.0
}

impl Figure {
    /// An empty one.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, ..Self::default() }
    }

    fn add(&mut self, element: std::fmt::Arguments) {
        // A `String` takes all.
        _ = self.body.write_fmt(element);
    }

    /// A box, with `inside` an element that names it, perhaps.
    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], class: &str, inside: &str) {
        let [x, y, width, height] = [x, y, width, height].map(at);
        self.add(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" class=\"{class}\">{inside}</rect>"
        ));
    }

    /// A line, or whatever `d` says.
    pub fn path(&mut self, d: &str, class: &str) {
        self.add(format_args!("<path d=\"{d}\" class=\"{class}\"/>"));
    }

    /// Text that is markup already.
    pub fn text(&mut self, [x, y]: [f64; 2], class: &str, markup: &str) {
        let [x, y] = [x, y].map(at);
        self.add(format_args!("<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{markup}</text>"));
    }

    /// All of it, under a name for who cannot see it.
    pub fn svg(&self, name: &str) -> String {
        let (width, height) = (at(self.width), at(self.height));
        format!(
            "<svg viewBox=\"0 {} {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">{}</svg>",
            at(self.origin),
            text(name),
            self.body
        )
    }
}

/// A histogram, its counts as logarithms; what lies beyond `cuts` in another colour, and the cuts as lines.
pub fn histogram(bars: &Bars, cuts: Option<[f64; 2]>) -> Figure {
    const SIZE: [f64; 2] = [340.0, 90.0];
    let mut figure = Figure::new(SIZE[0], SIZE[1] + 32.0);
    let [from, to] = cuts.unwrap_or([bars.lo, bars.hi]);
    let (lo, hi) = (bars.lo.min(from), bars.hi.max(to));
    let place = |x: f64| SIZE[0] * (x - lo) / (hi - lo).max(f64::MIN_POSITIVE);
    let most = bars.counts.iter().copied().max().unwrap_or(0).max(1);
    let tall = |n: u64| SIZE[1] * (1.0 + n as f64).ln() / (1.0 + most as f64).ln();
    let width = (bars.hi - bars.lo) / bars.counts.len().max(1) as f64;
    for (i, &n) in bars.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let begin = bars.lo + width * i as f64;
        let beyond = begin + width <= from || begin >= to;
        let class = if beyond { "beyond" } else { "bar" };
        let wide = (place(begin + width) - place(begin)).max(1.0);
        figure.rect([place(begin), SIZE[1] - tall(n), wide, tall(n)], class, "");
    }
    figure.path(&format!("M0 {0}H{1}", SIZE[1], SIZE[0]), "axis");
    let mut tick = |x: f64, class: &str, y: f64| {
        let x0 = place(x);
        let side = if x0 > SIZE[0] / 2.0 { "end" } else { "start" };
        if class == "cut" {
            figure.path(
                &format!("M{0} 0V{1}", at(x0.clamp(0.5, SIZE[0] - 0.5)), SIZE[1] + 4.0),
                class,
            );
        }
        figure.text([x0, y], &format!("{side} {class}"), &Number::real(x).svg());
    };
    tick(bars.lo, "seen", SIZE[1] + 13.0);
    tick(bars.hi, "seen", SIZE[1] + 13.0);
    for cut in cuts.into_iter().flatten() {
        tick(cut, "cut", SIZE[1] + 27.0);
    }
    figure
}

/// One column for each number, from 0 to `most`.
pub fn columns(numbers: impl ExactSizeIterator<Item = f64>, most: f64) -> Figure {
    const SIZE: [f64; 2] = [340.0, 60.0];
    let mut figure = Figure::new(SIZE[0], SIZE[1]);
    // There may be thousands: one outline, in which each is one wide, is shorter than a shape for each.
    let step = SIZE[0] / numbers.len().max(1) as f64;
    let mut d = format!("M0 {}", SIZE[1]);
    for x in numbers {
        let height = SIZE[1] * (x / most.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        _ = write!(d, "V{}h1", (SIZE[1] - height).round());
    }
    let end = SIZE[1];
    figure.add(format_args!(
        "<path d=\"{d}V{end}z\" class=\"bar\" transform=\"scale({step:.4} 1)\"/>"
    ));
    figure.path(&format!("M0 {end}H{}", SIZE[0]), "axis");
    figure
}

/// A bar that is filled to this share.
pub fn meter(share: f64) -> Figure {
    let mut figure = Figure::new(120.0, 10.0);
    figure.rect([0.0, 0.0, 120.0, 10.0], "track", "");
    let filled = 120.0 * share.clamp(0.0, 1.0);
    if filled > 0.0 {
        figure.rect([0.0, 0.0, filled.max(1.0), 10.0], "loss", "");
    }
    figure
}

/// A box of a graph.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its text.
    pub title: String,
    /// What stands beside it, as markup.
    pub beside: String,
    /// From 0, all is well, to 1.
    pub heat: f64,
    /// Whether it is crossed out.
    pub refused: bool,
    /// Where a click leads to.
    pub link: String,
    /// Rows that it reads, all above it.
    pub reads: Vec<usize>,
}

/// A graph as rows in the order in which they are computed, in pieces of at most `piece` of them. Lines to the next row are
/// straight, others go around at the left.
pub fn graph(rows: &[Row], piece: usize) -> Vec<Figure> {
    const ROW: f64 = 26.0;
    const BOX: [f64; 2] = [190.0, 19.0];
    let edges =
        rows.iter().enumerate().flat_map(|(to, row)| row.reads.iter().map(move |&from| (from, to)));
    let mut around: Vec<(usize, usize, usize)> = Vec::new();
    let mut free_from: Vec<usize> = Vec::new();
    let mut far: Vec<(usize, usize)> = edges.clone().filter(|(from, to)| to - from > 1).collect();
    far.sort_unstable();
    far.dedup();
    for (from, to) in far {
        let lane = free_from.iter().position(|&row| row <= from).unwrap_or(free_from.len());
        free_from.resize(free_from.len().max(lane + 1), 0);
        free_from[lane] = to;
        around.push((from, to, lane));
    }
    let left = 9.0 * free_from.len() as f64 + 6.0;
    let middle = |row: usize| ROW * row as f64 + ROW / 2.0;
    let (width, mut pieces) = (left + BOX[0] + 150.0, Vec::new());
    for begin in (0..rows.len()).step_by(piece.max(1)) {
        let end = rows.len().min(begin + piece);
        let mut figure = Figure::new(width, ROW * (end - begin) as f64);
        figure.origin = ROW * begin as f64;
        let inside = |from: usize, to: usize| from < end && to >= begin;
        for (from, to) in edges.clone().filter(|&(from, to)| to - from == 1 && inside(from, to)) {
            let x = left + 12.0;
            let (from, to) = (middle(from) + BOX[1] / 2.0, middle(to) - BOX[1] / 2.0);
            figure.path(&format!("M{x} {from}V{to}"), "edge");
        }
        for &(from, to, lane) in around.iter().filter(|&&(from, to, _)| inside(from, to)) {
            let x = left - 8.0 - 9.0 * lane as f64;
            let (from, to) = (middle(from) + 4.0, middle(to) - 4.0);
            figure.path(
                &format!(
                    "M{left} {from}Q{x} {from} {x} {}V{}Q{x} {to} {left} {to}",
                    from + 8.0,
                    to - 8.0
                ),
                "edge",
            );
        }
        for (i, row) in rows.iter().enumerate().take(end).skip(begin) {
            let y = middle(i) - BOX[1] / 2.0;
            let heat = at(100.0 * row.heat.clamp(0.0, 1.0));
            figure.add(format_args!("<a href=\"#{}\" style=\"--heat:{heat}%\">", text(&row.link)));
            let class = if row.refused { "node refused" } else { "node" };
            figure.rect(
                [left, y, BOX[0], BOX[1]],
                class,
                &format!("<title>{}</title>", text(&row.title)),
            );
            figure.text([left + 6.0, y + 13.5], "start", &text(&shortened(&row.title, 29)));
            figure.add(format_args!("</a>"));
            figure.text([left + BOX[0] + 8.0, y + 13.5], "start", &row.beside);
        }
        pieces.push(figure);
    }
    pieces
}

/// `text` with no more than `most` characters: its end says more than its beginning.
fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() {
        count if count > most => {
            text.chars().take(6).chain(['…']).chain(text.chars().skip(count - (most - 7))).collect()
        }
        _ => text.into(),
    }
}

/// What lies where in memory: time from left to right, bytes from the bottom; the bound as a line.
pub fn memory(blocks: &[Block], steps: usize, size: usize, bound: usize) -> Figure {
    const SIZE: [f64; 2] = [720.0, 240.0];
    let mut figure = Figure::new(SIZE[0], SIZE[1]);
    let (step, unit) = (SIZE[0] / steps.max(1) as f64, SIZE[1] / size.max(1) as f64);
    figure.rect([0.0, 0.0, SIZE[0], SIZE[1]], "track", "");
    for block in blocks {
        let (wide, tall) = (step * (block.last + 1 - block.first) as f64, unit * block.size as f64);
        let (x, y) = (step * block.first as f64, SIZE[1] - unit * block.offset as f64 - tall);
        let class = if block.scratch { "scratch" } else { "block" };
        figure.rect([x, y, wide, tall], class, &format!("<title>{}</title>", text(&block.name)));
        if wide > 70.0 && tall > 13.0 {
            let name = shortened(&block.name, ((wide - 8.0) / 6.5) as usize);
            figure.text([x + 4.0, y + 11.0], "start", &text(&name));
        }
    }
    let y = SIZE[1] - unit * bound as f64;
    figure.path(&format!("M0 {0}H{1}", at(y.max(0.5)), SIZE[0]), "cut");
    figure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_graph_do_not_share_a_lane() {
        let row = |reads: &[usize]| Row {
            title: "<a>".into(),
            beside: String::new(),
            heat: 0.5,
            refused: false,
            link: "x".into(),
            reads: reads.to_vec(),
        };
        let rows = [row(&[]), row(&[0]), row(&[1, 0]), row(&[2, 0]), row(&[3, 1])];
        let pieces = graph(&rows, 3);
        let all: String = pieces.iter().map(|piece| piece.svg("")).collect();
        assert_eq!((pieces.len(), all.matches("class=\"node\"").count()), (2, 5));
        // 0 to 2, 0 to 3 and 1 to 4 go around in three lanes.
        let lanes = ["Q16 ", "Q25 ", "Q7 ", "Q-2 "].map(|lane| all.contains(lane));
        assert_eq!(lanes.iter().filter(|there| **there).count(), 3, "{all}");
        assert!(!all.contains("<a>"), "{all}");
    }

    #[test]
    fn what_is_beyond_the_cuts_is_marked() {
        let bars = Bars { lo: -1.0, hi: 3.0, counts: vec![1, 9, 9, 1] };
        let drawn = |cuts| histogram(&bars, cuts).svg("");
        assert_eq!(drawn(Some([0.0, 2.0])).matches("class=\"beyond\"").count(), 2);
        assert_eq!(drawn(Some([-8.0, 8.0])).matches("class=\"beyond\"").count(), 0);
        assert!(!drawn(None).contains("cut"));
        let nothing = Bars { lo: 0.0, hi: 0.0, counts: vec![5] };
        assert!(!histogram(&nothing, Some([0.0, 0.0])).svg("").contains("NaN"));
    }

    #[test]
    fn columns_by_hand() {
        let drawn = columns([0.0, 1.0, 4.0].into_iter(), 4.0).svg("");
        let outline = "d=\"M0 60V60h1V45h1V0h1V60z\" class=\"bar\" transform=\"scale(113.3333 1)\"";
        assert!(drawn.contains(outline), "{drawn}");
    }

    #[test]
    fn a_long_title_keeps_its_end() {
        assert_eq!(shortened("/features/0/conv/Conv", 14), "/featu…nv/Conv");
        assert_eq!(shortened("短", 14), "短");
    }
}
