// A canvas for digits. Mouse, pen and finger draw; so do the arrow keys, once the canvas has the
// focus: space lowers and lifts the pen, Escape clears. Grey values go to Python, which answers
// with the ten probabilities and the 28 x 28 pixels that the network was given.

const SIZE = 252; // pixels on the screen
const PEN = 20;
const KEY_STEP = 9;
const SEND_AFTER = 60; // milliseconds: answers follow the pen without flooding the kernel
const PATIENCE = 3000; // milliseconds without an answer, before that is said
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function element(tag, className, parent, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  parent.appendChild(node);
  return node;
}

function canvas(className, side, parent) {
  const node = element("canvas", className, parent);
  node.width = node.height = side;
  return node;
}

function render({ model, el }) {
  const root = element("div", "draw-digit", el);

  const left = element("div", "", root);
  const pad = canvas("pad", SIZE, left);
  pad.tabIndex = 0;
  pad.setAttribute("role", "application"); // so that screen readers pass the keys on
  pad.setAttribute(
    "aria-label",
    "Canvas. Arrow keys move the pen, space lowers and lifts it, Escape clears."
  );
  element(
    "div",
    "caption",
    left,
    "Draw with the mouse or a finger. With keys: arrows move, space lowers and lifts the pen, " +
      "Escape clears."
  );
  const clearButton = element("button", "clear", left, "Clear");

  const middle = element("div", "", root);
  const seen = canvas("seen", 28, middle);
  seen.style.width = seen.style.height = "112px";
  element("div", "caption", middle, "what the network sees");

  const right = element("div", "", root);
  const answer = element("div", "answer", right, "Draw a digit");
  answer.setAttribute("aria-live", "polite");
  const rows = Array.from({ length: 10 }, (_, digit) => {
    const row = element("div", "row", right);
    element("span", "", row, String(digit));
    const bar = element("div", "bar", element("div", "track", row));
    return { row, bar, percent: element("span", "percent", row) };
  });

  const ink = pad.getContext("2d", { willReadFrequently: true });
  const pen = { x: SIZE / 2, y: SIZE / 2, down: false };
  let strokes = []; // each a list of points; redrawn whole, so that the pen's mark leaves no trace
  let timer = null;
  let patience = null;
  let sent = "";

  function paint(context, showPen) {
    context.fillStyle = "black";
    context.fillRect(0, 0, SIZE, SIZE);
    context.strokeStyle = "white";
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    for (const points of strokes) {
      context.beginPath();
      context.moveTo(...points[0]);
      points.forEach((point) => context.lineTo(...point));
      context.stroke();
    }
    if (showPen) {
      context.beginPath();
      context.arc(pen.x, pen.y, PEN / 2, 0, 2 * Math.PI);
      context.strokeStyle = pen.down ? "#e69f00" : "#56b4e9";
      context.lineWidth = 3;
      context.stroke();
    }
  }

  function send() {
    timer = null;
    const side = model.get("side");
    const whole = new OffscreenCanvas(SIZE, SIZE);
    paint(whole.getContext("2d"), false);
    const small = new OffscreenCanvas(side, side).getContext("2d");
    small.imageSmoothingQuality = "high";
    small.drawImage(whole, 0, 0, side, side);
    const pixels = small.getImageData(0, 0, side, side).data;
    const grey = new Uint8Array(side * side);
    for (let i = 0; i < grey.length; i++) grey[i] = pixels[4 * i];
    if (String(grey) === sent) return; // the pen moved but drew nothing: no answer would come
    sent = String(grey);
    model.set("drawing", new DataView(grey.buffer));
    model.save_changes();
    patience ??= setTimeout(complain, PATIENCE);
  }

  // In a saved notebook, or after a restart of the kernel, the pad looks alive and nobody listens.
  function complain() {
    answer.textContent = "No answer yet. Run all cells down to this one.";
  }

  function changed(withKeys) {
    paint(ink, withKeys);
    timer ??= setTimeout(send, SEND_AFTER);
  }

  function clear(withKeys) {
    strokes = [];
    pen.down = false;
    changed(withKeys);
  }

  function begin(x, y) {
    strokes.push([[x, y]]);
  }

  function point(event) {
    const box = pad.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * SIZE) / box.width,
      ((event.clientY - box.top) * SIZE) / box.height,
    ];
  }

  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pad.setPointerCapture(event.pointerId);
    begin(...point(event));
    changed(false);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!pad.hasPointerCapture(event.pointerId)) return;
    strokes[strokes.length - 1].push(point(event));
    changed(false);
  });

  function onKey(key) {
    if (key in MOVES) {
      const [dx, dy] = MOVES[key];
      pen.x = Math.min(Math.max(pen.x + dx * KEY_STEP, 0), SIZE);
      pen.y = Math.min(Math.max(pen.y + dy * KEY_STEP, 0), SIZE);
      if (pen.down) strokes[strokes.length - 1].push([pen.x, pen.y]);
      changed(true);
    } else if (key === " ") {
      pen.down = !pen.down;
      if (pen.down) begin(pen.x, pen.y);
      changed(true);
    } else if (key === "Escape") {
      clear(true);
    } else {
      return false;
    }
    return true;
  }

  pad.addEventListener("keydown", (event) => {
    // Tab moves on, Shift + Enter runs the cell, and the browser's own shortcuts stay.
    if (event.ctrlKey || event.metaKey || event.altKey || event.key === "Tab") return;
    if (event.key === "Enter" && event.shiftKey) return;
    // Any other key would be a command to the notebook: 7 makes a heading of the cell, x cuts it.
    event.stopPropagation();
    if (onKey(event.key)) event.preventDefault(); // or the page would scroll
  });
  pad.addEventListener("focus", () => paint(ink, pad.matches(":focus-visible")));
  pad.addEventListener("blur", () => paint(ink, false));
  clearButton.addEventListener("click", () => clear(false));

  function answered() {
    clearTimeout(patience);
    patience = null;
    showAnswer();
    showSeen();
  }

  function showAnswer() {
    const probabilities = model.get("probabilities");
    const best = probabilities.indexOf(Math.max(...probabilities));
    rows.forEach(({ row, bar, percent }, digit) => {
      const share = probabilities.length ? 100 * probabilities[digit] : 0;
      bar.style.width = `${share}%`;
      percent.textContent = probabilities.length ? `${share.toFixed(0)} %` : "";
      row.classList.toggle("best", digit === best);
    });
    answer.textContent = probabilities.length ? `I read a ${best}` : "Draw a digit";
  }

  function showSeen() {
    const grey = model.get("seen");
    if (!grey || grey.byteLength !== 28 * 28) return;
    const context = seen.getContext("2d");
    const image = context.createImageData(28, 28);
    for (let i = 0; i < 28 * 28; i++) {
      image.data.fill(grey.getUint8(i), 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }

  model.on("change:probabilities", answered);
  model.on("change:seen", answered);
  paint(ink, false);
  showAnswer();
  showSeen();
  return () => {
    clearTimeout(timer);
    clearTimeout(patience);
    model.off("change:probabilities", answered);
    model.off("change:seen", answered);
  };
}

export default { render };
