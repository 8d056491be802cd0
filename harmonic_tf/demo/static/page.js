// The page: sends pictures to the detectors, draws what they find from the threshold on.

const byId = (id) => document.getElementById(id);
const threshold = byId("threshold");
const detectors = [];
const views = [];
let queue = Promise.resolve();

const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);
const asNumber = (value) => (value === null ? "-" : value.toFixed(2));
const lowest = () => Number(threshold.value);

// ---- Detectors: what their scores mean, and how good they are at the threshold.

class DetectorPanel {
  constructor({ name, choices }, number) {
    this.choices = choices;
    this.number = number;
    this.element = copyOf("detector-template");
    this.element.querySelector("h2").textContent = name;
    this.select = this.element.querySelector("select");
    this.select.replaceChildren(...choices.map(({ nms }) => new Option(nms, nms)));
    this.select.disabled = choices.length === 1;
    this.select.addEventListener("change", () => {
      this.show();
      views.filter((view) => view.detector === this).forEach((view) => view.ask());
    });
    this.show();
  }

  get choice() {
    return this.choices[this.select.selectedIndex];
  }

  show() {
    const { meaning, note, precision, recall } = this.choice;
    const write = (name, text) => (this.element.querySelector(`.${name}`).textContent = text);
    const place = Math.round(lowest() * 100);
    write("meaning", meaning);
    write("note", note);
    write("precision", asNumber(precision && precision[place]));
    write("recall", asNumber(recall && recall[place]));
    this.element.querySelector(".numbers").hidden = precision === null;
  }
}

// ---- Views: one picture, as one detector sees it.

class View {
  constructor(detector, file, url) {
    this.detector = detector;
    this.file = file;
    this.element = copyOf("view-template");
    const image = this.element.querySelector("img");
    const stage = this.element.querySelector(".stage");
    image.addEventListener("load", () => {
      stage.style.setProperty("--width", `${image.naturalWidth}px`);
      stage.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    });
    image.addEventListener("error", () => (stage.hidden = true)); // nothing that browsers show
    image.alt = file.name;
    image.src = url;
    this.ask();
  }

  // One question after the other: the server looks at one picture at a time.
  ask() {
    const nms = this.detector.choice.nms;
    this.found = this.error = null;
    this.draw();
    queue = queue.then(() => this.answer(nms));
  }

  async answer(nms) {
    if (nms !== this.detector.choice.nms) return; // another one has been chosen since
    try {
      const path = `detect/${this.detector.number}/${encodeURIComponent(nms)}`;
      const name = encodeURIComponent(this.file.name);
      this.found = await json(`${path}?name=${name}`, { method: "POST", body: this.file });
    } catch (error) {
      this.error = error.message;
    }
    this.draw();
  }

  draw() {
    const all = this.found?.detections ?? [];
    const shown = all.filter(({ score }) => score >= lowest());
    const part = (name) => this.element.querySelector(name);
    part("figcaption").hidden = this.error !== null;
    part("figcaption").textContent = this.found
      ? `${shown.length} of ${all.length} detections`
      : "Looking…";
    part(".error").hidden = this.error === null;
    part(".error").textContent = this.error;
    part("details").hidden = shown.length === 0;
    part("ol").replaceChildren(...shown.map(asListItem));
    // The best box lies on top.
    part(".boxes").replaceChildren(...shown.map((one) => this.box(one)).reverse());
  }

  box({ box: [x1, y1, x2, y2], name, score, color }) {
    const { width, height } = this.found;
    const element = document.createElement("div");
    const label = document.createElement("span");
    label.textContent = `${name} ${asNumber(score)}`;
    label.className = isLight(color) ? "dark-text" : "light-text";
    element.className = x1 > 0.6 * width ? "box at-right" : "box";
    element.title = `${label.textContent}. ${this.detector.choice.meaning}`;
    element.style.setProperty("--color", color);
    element.style.left = `${(100 * x1) / width}%`;
    element.style.top = `${(100 * y1) / height}%`;
    element.style.width = `${(100 * (x2 - x1)) / width}%`;
    element.style.height = `${(100 * (y2 - y1)) / height}%`;
    element.append(label);
    return element;
  }
}

function asListItem({ name, score, box }) {
  const item = document.createElement("li");
  const [x1, y1, x2, y2] = box.map(Math.round);
  item.textContent = `${name} ${asNumber(score)}: x ${x1} to ${x2}, y ${y1} to ${y2}`;
  return item;
}

// Relative luminance above which black text is easier to read than white.
function isLight(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);
  return 0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2 > 0.18;
}

async function json(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Error("The server does not answer. Is harmonic-tf demo still running?");
  });
  const answer = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// ---- Pictures come in; the newest stand first.

function add(files) {
  byId("pictures").prepend(...[...files].map(asPicture));
}

function asPicture(file) {
  const url = URL.createObjectURL(file);
  const element = copyOf("picture-template");
  element.querySelector("h2").textContent = file.name;
  const own = detectors.map((detector) => new View(detector, file, url));
  views.push(...own);
  element.querySelector(".columns").append(...own.map((view) => view.element));
  return element;
}

byId("files").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = ""; // so that the same file can be chosen again
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
addEventListener("dragleave", () => byId("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  add(event.dataTransfer.files);
});

function showThreshold() {
  byId("threshold-value").textContent = lowest().toFixed(2);
  detectors.forEach((detector) => detector.show());
  views.forEach((view) => view.draw());
}
threshold.addEventListener("input", showThreshold);

try {
  detectors.push(...(await json("detectors")).map((one, number) => new DetectorPanel(one, number)));
  byId("pictures").style.setProperty("--detectors", detectors.length);
  byId("detectors").append(...detectors.map((detector) => detector.element));
  showThreshold();
} catch (error) {
  byId("trouble").textContent = error.message;
  byId("trouble").hidden = false;
}
