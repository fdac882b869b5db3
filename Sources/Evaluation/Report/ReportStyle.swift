/// Colours and layout of the report. The colours are the page's at `/`, found there for normal and colour-blind sight in
/// light and dark; a test keeps them equal to `base.css`.
enum ReportStyle {
  /// Experts beyond these take the colours again; their underlines differ.
  static let expertColours = 8

  static let palette = """
    --page: light-dark(#f6f6f8, #0e1014);
    --surface: light-dark(#ffffff, #15181e);
    --ink: light-dark(#16181d, #eceef2);
    --muted: light-dark(#595f6b, #a0a7b4);
    --line: light-dark(#dfe1e6, #2b303a);
    --strong-line: light-dark(#8b909b, #6c7482);
    --accent: light-dark(#3346b8, #aab6ff);
    --accent-soft: light-dark(#e8ebff, #232a4d);
    --good: light-dark(#18794e, #5bd69c);
    --bad: light-dark(#b42318, #ff9285);
    --c0: light-dark(#a9b5fb, #1c2c64);
    --c1: light-dark(#f3d489, #503f00);
    --c2: light-dark(#b9ead2, #2e564a);
    --c3: light-dark(#f19fb3, #481b38);
    --c4: light-dark(#c9bc6f, #313005);
    --c5: light-dark(#d6cafc, #5a4380);
    --c6: light-dark(#f3b9ab, #7f3833);
    --c7: light-dark(#7ac9d5, #0c4453);
    --l0: light-dark(#3d33b0, #6a92f0);
    --l1: light-dark(#896a01, #d3b02a);
    --l2: light-dark(#2b8a6e, #55e9b0);
    --l3: light-dark(#89094f, #d0659a);
    --l4: light-dark(#4d4b00, #a39700);
    --l5: light-dark(#7040c0, #cfbfff);
    --l6: light-dark(#a34a3e, #f08d90);
    --l7: light-dark(#006f84, #0bafda);
    --none: light-dark(#e6e8eb, #2c313a);
    --none-line: light-dark(#6b7280, #949cab);
    """

  private static let marks = [
    "underline solid", "underline dotted", "underline wavy", "underline double", "underline dashed",
    "overline underline solid", "overline underline dotted", "overline dashed",
  ]

  /// Classes of an expert's colour and mark, as the page gives them; nil: no expert.
  static func classes(_ expert: Int?) -> String {
    guard let expert else { return "none" }
    return "c\(expert % expertColours) m\((expert + expert / expertColours) % expertColours)"
  }

  static var css: String {
    let experts = (0..<expertColours).map {
      ".c\($0){background:var(--c\($0));text-decoration-color:var(--l\($0))}svg .c\($0){fill:var(--l\($0));background:none}"
    }.joined()
    let underlines = marks.enumerated().map {
      ".m\($0){text-decoration-line:\(line($1));text-decoration-style:\(kind($1))}"
    }
    .joined()
    return ":root{color-scheme:light dark;\(palette)}" + layout + experts + underlines
      + ".none{background:var(--none)}svg .none{fill:var(--none-line)}"
  }

  private static func line(_ mark: String) -> String { mark.split(separator: " ").dropLast().joined(separator: " ") }
  private static func kind(_ mark: String) -> String { mark.split(separator: " ").last.map(String.init) ?? "solid" }

  private static let layout = """
    :root[data-theme=light]{color-scheme:light}:root[data-theme=dark]{color-scheme:dark}
    *{box-sizing:border-box}
    body{font:100%/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif;
    max-width:92rem;margin:2rem auto;padding:0 1rem;color:var(--ink);background:var(--page)}
    h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.15rem;margin:2.2rem 0 .5rem}h3{font-size:1rem;margin:0 0 .3rem}
    p{margin:.4rem 0}.note{color:var(--muted);font-size:.88rem;max-width:60rem}
    .wide{overflow-x:auto;border:1px solid var(--line);border-radius:.7rem;background:var(--surface)}
    .below{margin-top:1rem}details{margin:.5rem 0}summary{cursor:pointer;padding:.2rem 0}
    table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;width:100%}
    th,td{padding:.35rem .7rem;text-align:right;white-space:nowrap;vertical-align:top}
    th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--surface)}
    thead th{color:var(--muted);font-weight:500;border-bottom:1px solid var(--line)}
    tbody tr+tr>*{border-top:1px solid var(--line)}tbody th{font-weight:600}
    tr.reference>*{background:var(--accent-soft)}
    small{display:block;color:var(--muted);font-size:.8em}.good{color:var(--good)}.bad{color:var(--bad)}
    .facts th,.facts td{text-align:left;padding:.1rem 1rem .1rem 0;border:0!important;position:static;background:none;white-space:normal}
    .facts th{color:var(--muted);font-weight:normal;width:1%;white-space:nowrap}
    .panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(24rem,100%),1fr));gap:1rem}
    figure{margin:0;padding:.8rem 1rem;border:1px solid var(--line);border-radius:.7rem;background:var(--surface)}
    figcaption{font-weight:600;font-size:.95rem;margin-bottom:.3rem}
    svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--ink)}svg .axis{fill:var(--muted)}
    .grid{stroke:var(--line);stroke-width:1}.whisker{stroke:var(--strong-line);stroke-width:1.5}
    .dot{fill:var(--strong-line)}.dot.reference{fill:var(--accent)}.zero{stroke:var(--strong-line);stroke-width:1.5}
    .dot.above{fill:var(--good)}.dot.below{fill:var(--bad)}
    .dot.neither{fill:var(--surface);stroke:var(--strong-line);stroke-width:1.5}
    a{color:inherit;text-decoration-color:var(--strong-line);text-underline-offset:.15em}
    .words td{text-align:left;white-space:normal;width:100%}
    .legend{display:flex;flex-wrap:wrap;gap:.4rem 1rem;margin:.5rem 0;font-size:.88rem}
    .tag{padding:.05em .4em .12em;border-radius:.3em}
    .t,.tag{text-underline-offset:.22em;text-decoration-thickness:2px;text-decoration-skip-ink:none}
    .t{border-radius:.2em;padding-block:.1em;box-decoration-break:clone;-webkit-box-decoration-break:clone}
    .controls{display:flex;flex-wrap:wrap;gap:.6rem 1rem;margin:.6rem 0;align-items:end;font-size:.9rem}
    .controls label{display:grid;gap:.15rem;color:var(--muted)}select,button,input{font:inherit;color:var(--ink);
    background:var(--surface);border:1px solid var(--strong-line);border-radius:.4rem;padding:.3rem .6rem;max-width:22rem}
    :focus-visible{outline:3px solid var(--accent);outline-offset:1px}
    .prompt{padding:.7rem 1rem;border-radius:.8rem;background:var(--accent-soft);white-space:pre-wrap;overflow-wrap:anywhere}
    .answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem;margin-top:1rem}
    .answers article{border:1px solid var(--line);border-radius:.8rem;background:var(--surface);padding:.8rem 1rem;min-width:0}
    .text{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.9;font-size:.95rem}
    @media print{.controls{display:none}}

    """
}
