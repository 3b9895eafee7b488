//! Colours: one a framework everywhere, told apart by colour-blind people, with a marker and a dash of their own, since
//! colour never carries meaning alone.

use std::fmt::Write as _;

/// Frameworks with a colour of their own; further ones share it, told apart by their markers.
pub(super) const COLOURS: usize = 8;

/// Light and dark. Begun from Okabe and Ito's, then moved until the pairs keep apart under protanopia, deuteranopia and
/// tritanopia and each has a contrast of 3 to its paper (a test computes both).
const FRAMEWORKS: [(&str, &str); COLOURS] = [
    ("#1154bb", "#5a8cff"),
    ("#e8381b", "#f07a2a"),
    ("#019360", "#2fe3a0"),
    ("#a44694", "#dd9bd0"),
    ("#6d942d", "#e6ee4a"),
    ("#3292fd", "#befee9"),
    ("#5b3a1e", "#ad6942"),
    ("#655e63", "#857a80"),
];

/// Everything that is no framework: name, light, dark.
const INKS: [(&str, &str, &str); 6] = [
    ("ink", "#1b1f24", "#e8eaed"),
    ("muted", "#5b636d", "#a3abb5"),
    ("grid", "#e3e6ea", "#2c323a"),
    ("axis", "#9aa2ab", "#59616b"),
    ("paper", "#ffffff", "#14171c"),
    ("warn", "#b3261e", "#ff8a80"),
];

/// The rules of the charts; colours are variables.
const RULES: &str = include_str!("charts.css");

/// Light or dark paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// For screens by day and for print.
    Light,
    /// For screens by night.
    Dark,
}

fn colours(scheme: Scheme) -> impl Iterator<Item = (String, &'static str)> {
    let of = move |light, dark| match scheme {
        Scheme::Light => light,
        Scheme::Dark => dark,
    };
    let frameworks = FRAMEWORKS
        .iter()
        .enumerate()
        .map(move |(i, (light, dark))| (format!("fw-{}", i + 1), of(*light, *dark)));
    let inks = INKS
        .iter()
        .map(move |(name, light, dark)| ((*name).to_owned(), of(*light, *dark)));
    frameworks.chain(inks)
}

/// The variables that [`chart_rules`] needs, as declarations: `--fw-1:#…;--ink:#…;`.
pub fn chart_variables(scheme: Scheme) -> String {
    colours(scheme).fold(String::new(), |mut out, (name, colour)| {
        let _ = write!(out, "--{name}:{colour};");
        out
    })
}

/// The style sheet of figures and their legends, without the variables.
pub fn chart_rules() -> &'static str {
    RULES
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linear red, green, blue.
    fn linear(hex: &str) -> [f64; 3] {
        [1, 3, 5].map(|at| {
            let byte = u8::from_str_radix(&hex[at..at + 2], 16).expect("a colour in hex");
            let c = f64::from(byte) / 255.0;
            if c <= 0.040_45 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        })
    }

    /// CIE L*a*b*.
    fn lab(rgb: [f64; 3]) -> [f64; 3] {
        let [r, g, b] = rgb.map(|c| c.clamp(0.0, 1.0));
        let f = |t: f64| {
            if t > 0.008_856 {
                t.cbrt()
            } else {
                7.787 * t + 16.0 / 116.0
            }
        };
        let x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.950_47);
        let y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
        let z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.088_83);
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// How dichromats see, after Machado, Oliveira and Fernandes (2009), severity 1.
    const SIGHT: [(&str, [[f64; 3]; 3]); 4] = [
        ("normal", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
        ),
        (
            "deuteranopia",
            [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
        ),
        (
            "tritanopia",
            [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
        ),
    ];

    #[test]
    fn frameworks_can_be_told_apart_by_everyone_on_either_paper() {
        for scheme in [Scheme::Light, Scheme::Dark] {
            let all: Vec<_> = colours(scheme).collect();
            let paper = all.iter().find(|(n, _)| n == "paper").expect("paper").1;
            let luminance = |hex: &str| {
                let [r, g, b] = linear(hex);
                0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05
            };
            for (name, colour) in all.iter().filter(|(n, _)| n.starts_with("fw-")) {
                let (a, b) = (luminance(colour), luminance(paper));
                assert!(a.max(b) / a.min(b) >= 3.0, "{scheme:?} {name} is faint");
            }
            for (sight, matrix) in SIGHT {
                let seen = |hex: &str| {
                    let rgb = linear(hex);
                    lab(matrix.map(|row| row.iter().zip(rgb).map(|(m, c)| m * c).sum()))
                };
                for i in 0..COLOURS {
                    for j in 0..i {
                        let (a, b) = (seen(all[i].1), seen(all[j].1));
                        let apart = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                        // 2.3 is a difference that can just be seen.
                        assert!(
                            apart >= 14.0,
                            "{scheme:?} {sight}: {} and {}: {apart}",
                            i + 1,
                            j + 1
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_colour_of_the_rules_is_known() {
        let known: Vec<String> = colours(Scheme::Light)
            .map(|(name, _)| format!("var(--{name})"))
            .collect();
        for (at, _) in RULES.match_indices("var(") {
            let used = RULES[at..].split_inclusive(')').next().unwrap_or_default();
            assert!(known.iter().any(|k| k == used), "{used}");
        }
    }
}
