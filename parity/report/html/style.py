"""How the HTML page looks, in a light and in a dark scheme, on a wide and on a narrow screen."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #171a21; --soft: #565d6b; --line: #d9dce3;
  --blue: #2459b8; --good: #17703f; --bad: #b3201a; --good-tint: #e4f3ea; --bad-tint: #fbe6e4;
  --shade: #00000033;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #101318; --card: #191d24; --ink: #e7e9ee; --soft: #a2a9b8; --line: #343a46;
    --blue: #82b1ff; --good: #67d394; --bad: #ff9088; --good-tint: #16301f; --bad-tint: #3d1a18;
    --shade: #ffffff33;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 24px 20px 64px; max-width: 1240px;
  background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
}
h1 { margin: 0 0 4px; font-size: 28px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 20px; line-height: 1.3; }
h3 { margin: 0 0 6px; font-size: 16px; line-height: 1.35; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 78ch; }
a { color: var(--blue); }
code, .name { font-family: ui-monospace, monospace; font-size: 0.9em; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.small { font-size: 14px; }
header p { max-width: none; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 20px; padding: 0; }
nav li { list-style: none; }
section, .banner {
  margin: 0 0 20px; padding: 20px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px;
}
.mark { width: 1.15em; height: 1.15em; vertical-align: -0.2em; flex: none; }
.mark .sign { fill: none; stroke: var(--card); stroke-width: 2; stroke-linecap: round; }
.mark.good .ground { fill: var(--good); }
.mark.bad .ground { fill: var(--bad); }
.banner { display: flex; gap: 16px; align-items: center; border-width: 2px; }
.banner div { min-width: 0; overflow-wrap: anywhere; }
.banner .mark { width: 52px; height: 52px; }
.banner strong { display: block; font-size: 26px; line-height: 1.2; letter-spacing: 0.01em; }
.banner.good { border-color: var(--good); background: var(--good-tint); }
.banner.bad { border-color: var(--bad); background: var(--bad-tint); }
ul.verdicts { margin: 0; padding: 0; }
ul.verdicts li {
  display: flex; gap: 10px; padding: 10px 0; list-style: none; border-top: 1px solid var(--line);
  overflow-wrap: anywhere;
}
ul.verdicts li:first-child { border-top: 0; padding-top: 0; }
ul.verdicts li:last-child { padding-bottom: 0; }
ul.verdicts .mark { margin-top: 3px; }
ul.verdicts div { min-width: 0; }
.scroll {
  overflow-x: auto; margin: 0 0 12px;
  background:
    linear-gradient(to left, var(--card) 30%, transparent) right / 48px 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 16px 100% no-repeat scroll;
}
.scroll:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td {
  padding: 6px 14px 6px 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line);
}
th { font-weight: 600; }
thead th { color: var(--soft); vertical-align: bottom; overflow-wrap: anywhere; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { position: sticky; left: 0; background: var(--card); }
table.columns tbody th { min-width: 132px; max-width: 45vw; }
table.columns td, table.columns thead th + th { min-width: 118px; max-width: 260px; }
table.taps td, table.taps thead th { white-space: nowrap; }
table.taps td { text-align: right; }
table.taps thead th + th { text-align: right; }
table.taps td.text, table.taps thead th.text { text-align: left; }
table.words td, table.words th { min-width: 130px; max-width: 420px; overflow-wrap: anywhere; }
tr.out > *, td.out { color: var(--bad); }
td.out { font-weight: 600; }
td .name { display: block; color: var(--soft); font-size: 13px; font-weight: 400; }
details { margin: 0 0 10px; }
summary { cursor: pointer; padding: 4px 0; overflow-wrap: anywhere; }
details[open] > summary { margin-bottom: 8px; }
dl { display: grid; grid-template-columns: 210px minmax(0, 1fr); gap: 4px 18px; margin: 0 0 22px; }
dl:last-child { margin-bottom: 0; }
dt { color: var(--soft); overflow-wrap: anywhere; }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 0 0 22px; }
figure:last-child { margin-bottom: 0; }
figcaption { margin: 0 0 4px; overflow-wrap: anywhere; }
.plot .scroll svg { display: block; width: 100%; min-width: 720px; height: auto; }
.plot text { font: 13px system-ui, sans-serif; fill: var(--soft); }
.plot text.note { fill: var(--bad); font-weight: 600; }
.plot text.bound {
  fill: var(--ink); stroke: var(--card); stroke-width: 4px; paint-order: stroke;
}
.plot .grid, .plot .stage { stroke: var(--line); stroke-width: 1; }
.plot .stage { stroke-dasharray: 2 3; stroke: var(--soft); opacity: 0.6; }
.plot .axis { stroke: var(--soft); stroke-width: 1; }
.plot .limit, .key .limit { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.plot .limit, .key .limit { stroke-dasharray: 7 4; }
.plot .beyond { fill: var(--bad); opacity: 0.06; }
.plot .course { fill: none; stroke: var(--blue); stroke-width: 1; opacity: 0.35; }
.plot .first { stroke: var(--bad); stroke-width: 1.5; }
.point .hit { fill: transparent; }
.point:hover .hit { fill: var(--soft); opacity: 0.16; }
.within { fill: var(--blue); }
.outside { fill: var(--card); stroke: var(--bad); stroke-width: 1.8; }
.broken, .structural { fill: var(--bad); }
ul.key { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 0 0 16px; padding: 0; }
ul.key li { display: flex; gap: 7px; align-items: center; list-style: none; font-size: 14px; }
ul.key svg { width: 24px; height: 16px; flex: none; }
.image { display: flex; gap: 16px; padding: 14px 0; border-top: 1px solid var(--line); }
.image:first-of-type { border-top: 0; padding-top: 0; }
.image > .answers { min-width: 0; flex: 1; }
.thumbnail { display: block; width: 96px; height: auto; border-radius: 4px; }
.thumbnail-box { flex: none; width: 96px; }
.image .scroll { margin: 0; }
table.answers { width: 100%; table-layout: fixed; min-width: 700px; }
table.answers thead th:first-child { width: 22%; }
table.answers th, table.answers td { padding: 3px 10px 3px 0; overflow-wrap: anywhere; }
.share { margin-left: 0.5em; color: var(--soft); font-weight: 400; white-space: nowrap; }
.gallery { display: flex; flex-wrap: wrap; gap: 16px; }
.gallery figure { width: 128px; margin: 0; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 24px; }
.maps article { min-width: 0; }
.pair { display: flex; gap: 12px; align-items: flex-start; margin: 0 0 8px; }
.pair figure { width: 150px; margin: 0; }
.pair img { display: block; width: 150px; height: auto; border-radius: 4px; }
.map img { image-rendering: pixelated; outline: 1px solid var(--line); }
.map.flat { width: 100%; }
.map.flat img { width: 100%; min-height: 20px; }
.token img { width: 18px; height: 18px; display: inline-block; vertical-align: -4px; }
.values { margin-bottom: 18px; }
.scale { display: flex; flex-wrap: wrap; gap: 2px 8px; align-items: center; }
.scale { font-size: 13px; color: var(--soft); }
.scale > picture img { width: 110px; height: 12px; outline: 1px solid var(--line); }
@media (max-width: 620px) {
  body { padding: 14px 10px 48px; }
  section, .banner { padding: 14px; }
  h1 { font-size: 23px; }
  .image { flex-direction: column; gap: 8px; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: 8px; }
  .maps { grid-template-columns: minmax(0, 1fr); }
}
@media print {
  body { background: none; }
  section, .banner { break-inside: avoid-page; }
}
"""
