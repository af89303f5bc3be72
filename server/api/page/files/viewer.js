// The picture area: one picture, two under a slider, or several side by side, all zoomed and moved
// together.

import { el } from "./dom.js";

const MOST_ZOOM = 24;
const STEP = 1.4;
const DRAG_FROM_PX = 4;
const KEY_PAN_PX = 60;
/** The height of what says which picture is which, above it. */
const CAPTION_PX = 40;

export class Viewer {
  #root;
  #stack;
  #panes = [];
  #size = { width: 1, height: 1 };
  #captionPx = 0;
  #zoom = 1;
  #x = 0;
  #y = 0;
  #pointers = new Map();
  #moved = false;

  /** `root`: the element to fill. `onZoom(zoom)` is told the factor over fitting in. */
  constructor(root, onZoom) {
    this.#root = root;
    this.onZoom = onZoom;
    this.#stack = root.querySelector(".stack");
    this.boxes = el("div", { className: "boxes" });
    this.overlay = el("img", { className: "overlay", alt: "", hidden: true });
    this.#bindPointers();
    this.#bindKeys();
    this.#bindDivider();
    new ResizeObserver(() => this.#lay()).observe(root);
  }

  /** Show pictures: [{url, label, alt}], in all the same frame of `width` × `height`. `mode`:
   *  "slider" lays the second over the first; "grid" puts all side by side. */
  show(pictures, { width, height, mode }) {
    if (width !== this.#size.width || height !== this.#size.height) {
      const alike = Math.abs(width / height - this.#size.width / this.#size.height) < 0.01;
      this.#size = { width, height };
      if (!alike) this.reset();
    }
    this.#captionPx = pictures.some(({ label }) => label) ? CAPTION_PX : 0;
    this.#root.dataset.mode = pictures.length > 1 ? mode : "single";
    this.#panes = pictures.map(({ url, label, alt }) => {
      const image = el("img", { src: url, alt, draggable: false });
      const content = el("div", { className: "content" }, image);
      const caption = label ? el("span", { className: "caption" }, label) : null;
      return el("div", { className: "pane" }, content, caption);
    });
    const top = el("div", { className: "content" }, this.overlay, this.boxes);
    this.#panes.push(el("div", { className: "pane layer" }, top));
    this.#stack.replaceChildren(...this.#panes);
    this.#stack.style.setProperty("--columns", Math.ceil(Math.sqrt(pictures.length)));
    this.#lay();
  }

  reset() {
    [this.#zoom, this.#x, this.#y] = [1, 0, 0];
    this.#lay();
  }

  /** Zoom by a factor about a point of the pane, as offsets from its middle in pixels. */
  zoomBy(factor, [x, y] = [0, 0]) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.#zoom * factor));
    this.#x = x - ((x - this.#x) * zoom) / this.#zoom;
    this.#y = y - ((y - this.#y) * zoom) / this.#zoom;
    this.#zoom = zoom;
    this.#lay();
  }

  zoomIn = () => this.zoomBy(STEP);
  zoomOut = () => this.zoomBy(1 / STEP);

  #pan(x, y) {
    this.#x += x;
    this.#y += y;
    this.#lay();
  }

  #lay() {
    const pane = this.#panes[0];
    if (!pane) return;
    const [width, height] = [pane.clientWidth, pane.clientHeight - this.#captionPx];
    const fit = Math.min(width / this.#size.width, height / this.#size.height);
    const [w, h] = [this.#size.width * fit, this.#size.height * fit];
    const bound = (value, size, room) => {
      const most = Math.max(0, (size * this.#zoom - room) / 2);
      return Math.min(most, Math.max(-most, value));
    };
    this.#x = bound(this.#x, w, width);
    this.#y = bound(this.#y, h, height);
    this.#root.style.setProperty("--zoom", this.#zoom);
    this.#root.classList.toggle("zoomed", this.#zoom > 1);
    for (const { firstChild: content } of this.#panes) {
      content.style.top = `calc(50% + ${this.#captionPx / 2}px)`;
      content.style.width = `${w}px`;
      content.style.height = `${h}px`;
      const centred = `translate(calc(${this.#x}px - 50%), calc(${this.#y}px - 50%))`;
      content.style.transform = `${centred} scale(${this.#zoom})`;
    }
    this.onZoom(this.#zoom);
  }

  #fromMiddle(event) {
    const pane = event.target.closest(".pane") ?? this.#panes[0];
    const { left, top, width, height } = pane.getBoundingClientRect();
    return [event.clientX - left - width / 2, event.clientY - top - (height + this.#captionPx) / 2];
  }

  #bindPointers() {
    const root = this.#stack;
    root.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY / 400), this.#fromMiddle(event));
      },
      { passive: false },
    );
    root.addEventListener("dblclick", (event) => {
      if (event.target.closest(".box")) return;
      if (this.#zoom > 1) this.reset();
      else this.zoomBy(3, this.#fromMiddle(event));
    });
    root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.#moved = false;
      this.#pointers.set(event.pointerId, event);
    });
    root.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
      root.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    // What ends a drag on a face's box is not a click on it.
    root.addEventListener(
      "click",
      (event) => {
        if (this.#moved) event.stopPropagation();
      },
      { capture: true },
    );
  }

  #drag(event) {
    const last = this.#pointers.get(event.pointerId);
    if (!last) return;
    const other = [...this.#pointers.values()].find((p) => p.pointerId !== event.pointerId);
    const [x, y] = [event.clientX - last.clientX, event.clientY - last.clientY];
    if (!this.#moved && Math.hypot(x, y) < DRAG_FROM_PX && !other) return;
    if (!this.#moved) this.#stack.setPointerCapture(event.pointerId);
    this.#moved = true;
    this.#pointers.set(event.pointerId, event);
    if (other) {
      const distance = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
      this.zoomBy(distance(event) / Math.max(1, distance(last)), this.#fromMiddle(other));
    } else {
      this.#pan(x, y);
    }
  }

  #bindKeys() {
    const keys = {
      "+": () => this.zoomIn(),
      "=": () => this.zoomIn(),
      "-": () => this.zoomOut(),
      0: () => this.reset(),
      ArrowLeft: () => this.#pan(KEY_PAN_PX, 0),
      ArrowRight: () => this.#pan(-KEY_PAN_PX, 0),
      ArrowUp: () => this.#pan(0, KEY_PAN_PX),
      ArrowDown: () => this.#pan(0, -KEY_PAN_PX),
    };
    this.#root.addEventListener("keydown", (event) => {
      if (event.target !== this.#root || event.ctrlKey || event.metaKey || event.altKey) return;
      if (!(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
    });
  }

  #bindDivider() {
    const slider = this.#root.querySelector(".divider");
    const handle = this.#root.querySelector(".handle");
    const put = () => this.#root.style.setProperty("--split", `${slider.value}%`);
    slider.addEventListener("input", put);
    put();
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      handle.setPointerCapture(event.pointerId);
      slider.focus({ preventScroll: true });
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const { left, width } = this.#root.getBoundingClientRect();
      slider.value = (100 * (event.clientX - left)) / width;
      put();
    });
  }
}
