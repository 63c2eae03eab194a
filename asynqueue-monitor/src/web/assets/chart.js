// The live chart.

const SECONDS = 120;

let seconds = [];

export function draw(recent, last) {
  const chart = document.getElementById("recent");
  if (!chart) return;
  if (recent) seconds = recent;
  else if (last) seconds = [...seconds, last].slice(-SECONDS);
  if (!seconds.length) return;
  const most = Math.max(1, ...seconds.map(([succeeded, failed]) => succeeded + failed));
  const bars = seconds.flatMap(([succeeded, failed], place) => {
    const x = (SECONDS - seconds.length + place) * 10;
    const good = (succeeded / most) * 100;
    const bad = (failed / most) * 100;
    return [bar("good", x, 100 - good, good), bar("bad", x, 100 - good - bad, bad)];
  });
  chart.querySelector("svg").replaceChildren(...bars);
  chart.querySelectorAll("figcaption span").forEach((element, place) => {
    element.textContent = String(seconds.at(-1)[place]);
  });
}

function bar(kind, x, y, height) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const attributes = { class: kind, x, y, width: 9, height };
  for (const [name, value] of Object.entries(attributes)) rect.setAttribute(name, value);
  return rect;
}
