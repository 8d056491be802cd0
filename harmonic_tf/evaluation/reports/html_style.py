"""How the HTML report looks: light and dark, wide and narrow, on screen and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --panel: #ffffff; --text: #1c2330; --soft: #5a6475; --line: #dde1e8;
  --accent: #1f6fb4; --stripe: #f6f8fb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #11141a; --panel: #1a1f28; --text: #e4e8ee; --soft: #9aa5b5; --line: #303846;
    --accent: #6cb2ee; --stripe: #1f2530;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body {
  margin: 0 auto; max-width: 92rem; padding: 1.5rem clamp(0.75rem, 3vw, 2.5rem) 4rem;
  background: var(--ground); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1 { font-size: clamp(1.4rem, 4vw, 2rem); line-height: 1.2; margin: 0 0 0.5rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 1rem; }
h1, p, li, tbody th, figcaption { overflow-wrap: anywhere; }
header p { margin: 0.25rem 0; color: var(--soft); max-width: 75ch; }
p { max-width: 75ch; }
a { color: var(--accent); }
nav { margin: 1.25rem 0; }
nav h2 { font-size: 0.8rem; margin: 0 0 0.4rem; color: var(--soft); }
nav ol {
  margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: 0.3rem 1rem;
}
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
main { min-width: 0; }
section {
  background: var(--panel); border: 1px solid var(--line); border-radius: 0.6rem;
  padding: clamp(0.9rem, 2.5vw, 1.6rem); margin: 0 0 1.25rem;
}
section > :last-child { margin-bottom: 0; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.75rem;
  margin: 0 0 1.25rem;
}
.cards div { border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.7rem 0.9rem; }
.cards dt { color: var(--soft); font-size: 0.85rem; }
.cards dd { margin: 0; font-size: 1.7rem; font-weight: 600; line-height: 1.3; }
.scroll {
  display: inline-block; vertical-align: top; max-width: 100%; overflow-x: auto;
  margin: 0 1.5rem 1.25rem 0;
}
.scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.93rem; }
caption { text-align: left; font-weight: 600; padding: 0 0 0.4rem; white-space: nowrap; }
th, td { padding: 0.35rem 0.65rem; border-bottom: 1px solid var(--line); text-align: right; }
td, dd { font-variant-numeric: tabular-nums; }
td { white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, th.text, td.text { text-align: left; }
tbody th { font-weight: 500; min-width: 8rem; }
td.text { min-width: 13rem; max-width: 60ch; color: var(--soft); white-space: normal; }
tbody tr:nth-child(even) { background: var(--stripe); }
.pictures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr));
  gap: 1.25rem; margin: 0 0 1.25rem; align-items: start;
}
figure { margin: 0; max-width: var(--width); }
figure img {
  display: block; max-width: 100%; height: auto; background: #ffffff;
  border: 1px solid var(--line); border-radius: 0.4rem;
}
figcaption { margin-top: 0.4rem; font-size: 0.9rem; color: var(--soft); max-width: 75ch; }
pre {
  overflow-x: auto; margin: 0; padding: 0.9rem; border-radius: 0.4rem; background: var(--stripe);
  font: 0.85rem/1.5 ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace;
}
@media (min-width: 75rem) {
  body { display: grid; grid-template-columns: 14rem minmax(0, 1fr); column-gap: 2rem; }
  header { grid-column: 1 / -1; margin-bottom: 1.25rem; }
  nav { margin: 0; position: sticky; top: 1.5rem; align-self: start; }
  nav ol { flex-direction: column; }
}
@media print {
  :root { --ground: #ffffff; --panel: #ffffff; --text: #000000; --soft: #444444; --line: #bbbbbb; }
  body { display: block; max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  section { border: 0; padding: 0; margin: 0 0 1.5rem; }
  h2 { break-after: avoid; }
  figure, tr, .cards { break-inside: avoid; }
  .scroll { overflow: visible; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
"""
