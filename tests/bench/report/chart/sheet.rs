//! The sheet that a chart is drawn on: its colours, its type, and a horizontal axis from nothing.

use plotters::{
    backend::SVGBackend,
    coord::{
        Shift,
        ranged1d::{BoldPoints, Ranged},
        types::RangedCoordf64,
    },
    drawing::{DrawingArea, IntoDrawingArea},
    element::{PathElement, Rectangle, Text},
    style::{
        Color, FontFamily, FontStyle, IntoFont, RGBColor, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

/// In pixels.
const WIDTH: i32 = 960;
/// From where to where the axis reaches; the longest bar needs room for what stands beside it.
pub(super) const AXIS: (i32, i32) = (226, WIDTH - 190);
/// Lines of the grid, at most.
const TICKS: usize = 8;

/// The reader's own, as on the pages around the chart.
const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

/// A place, in pixels from the upper left.
type Place = (i32, i32);

/// An SVG in the making.
pub(super) struct Sheet<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    axis: RangedCoordf64,
}

/// A colour by what it is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    Ground,
    Grid,
    Plain,
    Quiet,
    Rival,
    Hot,
}

/// How a text is set: its middle line is at its place, and it runs to the right if not told otherwise.
#[derive(Clone, Copy)]
pub(super) struct Words {
    ink: Ink,
    size: f64,
    style: FontStyle,
    runs: HPos,
}

impl<'a> Sheet<'a> {
    /// An empty sheet, whose axis ends at `most`.
    pub(super) fn new(svg: &'a mut String, height: i32, most: f64) -> anyhow::Result<Self> {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let sheet = Self {
            area: SVGBackend::with_string(svg, size).into_drawing_area(),
            axis: (0.0..most).into(),
        };
        sheet.rectangle((0, 0), (WIDTH, height), Ink::Ground)?;
        Ok(sheet)
    }

    /// Where on the axis a value is.
    pub(super) fn x(&self, value: f64) -> i32 {
        self.axis.map(&value, AXIS)
    }

    /// Round values on the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        self.axis.key_points(BoldPoints(TICKS))
    }

    pub(super) fn rectangle(&self, from: Place, to: Place, ink: Ink) -> anyhow::Result<()> {
        let rectangle = Rectangle::new([from, to], ink.color().filled());
        Ok(self.area.draw(&rectangle)?)
    }

    pub(super) fn line(&self, from: Place, to: Place, ink: Ink) -> anyhow::Result<()> {
        Ok(self.area.draw(&PathElement::new([from, to], ink.color()))?)
    }

    pub(super) fn text(&self, text: &str, place: Place, words: Words) -> anyhow::Result<()> {
        Ok(self.area.draw(&Text::new(text, place, words.style()))?)
    }

    /// Ends the document.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        Ok(self.area.present()?)
    }
}

impl Ink {
    const fn color(self) -> RGBColor {
        match self {
            Self::Ground => RGBColor(0xfd, 0xfd, 0xfb),
            Self::Grid => RGBColor(0xe6, 0xe7, 0xe4),
            Self::Plain => RGBColor(0x1f, 0x23, 0x28),
            Self::Quiet => RGBColor(0x65, 0x6c, 0x76),
            Self::Rival => RGBColor(0xa9, 0xb1, 0xba),
            Self::Hot => RGBColor(0xd9, 0x48, 0x0f),
        }
    }
}

impl Words {
    /// `size` is the font's, in pixels.
    pub(super) const fn of(ink: Ink, size: f64) -> Self {
        Self {
            ink,
            size,
            style: FontStyle::Normal,
            runs: HPos::Left,
        }
    }

    pub(super) const fn bold(self) -> Self {
        Self {
            style: FontStyle::Bold,
            ..self
        }
    }

    pub(super) const fn centred(self) -> Self {
        Self {
            runs: HPos::Center,
            ..self
        }
    }

    pub(super) const fn to_the_left(self) -> Self {
        Self {
            runs: HPos::Right,
            ..self
        }
    }

    fn style(self) -> TextStyle<'static> {
        /// By which plotters divides the size of what it writes.
        const LINE: f64 = 1.24;
        TextStyle {
            font: (FontFamily::Name(FONTS), self.size * LINE, self.style).into_font(),
            color: self.ink.color().to_backend_color(),
            pos: Pos::new(self.runs, VPos::Center),
        }
    }
}
