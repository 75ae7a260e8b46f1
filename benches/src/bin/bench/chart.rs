//! Horizontal bars as SVG: no script, no font, no other file; dark text on white.

use std::fmt::{Result, Write};

/// One group of bars with a scale of its own.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// One bar.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    /// Stands out.
    pub(crate) ours: bool,
}

const WIDTH: f64 = 810.0;
const LABEL: f64 = 200.0;
/// Room for the value to the right of the longest bar.
const VALUE: f64 = 90.0;
const TITLE_HEIGHT: f64 = 34.0;
const BAR_HEIGHT: f64 = 22.0;
const MARGIN: f64 = 16.0;

/// The whole picture.
pub(crate) fn draw(panels: &[Panel]) -> std::result::Result<String, std::fmt::Error> {
    let heights = panels.iter().map(|panel| TITLE_HEIGHT + BAR_HEIGHT * panel.bars.len() as f64);
    let height = heights.sum::<f64>() + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut top = MARGIN;
    for panel in panels {
        top = draw_panel(&mut svg, panel, top)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// Returns where the next one begins.
fn draw_panel(svg: &mut String, panel: &Panel, top: f64) -> std::result::Result<f64, std::fmt::Error> {
    let title = escape(&panel.title);
    writeln!(svg, "<text x=\"{MARGIN}\" y=\"{:.1}\" font-weight=\"600\" fill=\"#1f2328\">{title}</text>", top + 20.0)?;
    let longest = panel.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - 2.0 * MARGIN - LABEL - VALUE;
    let mut y = top + TITLE_HEIGHT;
    for bar in &panel.bars {
        draw_bar(svg, bar, y, (bar.value / longest * room).max(1.0))?;
        y += BAR_HEIGHT;
    }
    Ok(y)
}

fn draw_bar(svg: &mut String, bar: &Bar, y: f64, length: f64) -> Result {
    let (left, base) = (MARGIN + LABEL, y + 14.5);
    let (fill, weight) = if bar.ours { ("#0a6ebd", "600") } else { ("#9aa4b0", "400") };
    let label = escape(&bar.label);
    writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\" font-weight=\"{weight}\" fill=\"#1f2328\">{label}</text>",
        left - 8.0
    )?;
    writeln!(svg, "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"16\" rx=\"2\" fill=\"{fill}\"/>", y + 2.0)?;
    let value = number(bar.value);
    writeln!(svg, "<text x=\"{:.1}\" y=\"{base:.1}\" font-weight=\"{weight}\" fill=\"#1f2328\">{value}</text>", left + length + 6.0)
}

/// Three digits that matter: 1,234,567 · 36.2 · 0.63.
fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    if value < 100.0 {
        return format!("{value:.1}").trim_end_matches(".0").to_owned();
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        let shown = [0.634, 3.0, 36.24, 40.0, 999.6, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.63", "3", "36.2", "40", "1,000", "1,234,567"]);
    }

    #[test]
    fn the_longest_bar_fills_the_room_and_text_is_escaped() {
        let bar = |label: &str, value| Bar { label: label.into(), value, ours: false };
        let svg = draw(&[Panel { title: "a < b".into(), bars: vec![bar("x", 50.0), bar("y", 100.0)] }]).unwrap();
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains("width=\"244.0\"") && svg.contains("width=\"488.0\""), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 3);
    }
}
