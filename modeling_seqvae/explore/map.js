// A map of texts on a canvas: colours, a legend, texts under the pointer, zoom by wheel, moves by drag, choice by click.
// `props.value`: {x, y, texts, colours (an index into palette, or a share of the scale), legend, scale, chosen, near}.
const canvas = element.querySelector("canvas");
const tip = element.querySelector(".sv-tip");
const legend = element.querySelector(".sv-legend");
const context = canvas.getContext("2d");
const MARGIN = 24, REACH = 12;
const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31", "#999999"];
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
let data = {x: [], y: [], texts: [], colours: []};
let view = {zoom: 1, x: 0, y: 0};
let under = -1, drag = null, queued = false;

function onScale(share) {
    const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
    const mixed = VIRIDIS[low].map((part, i) => Math.round(part + (place - low) * (VIRIDIS[low + 1][i] - part)));
    return `rgb(${mixed.join(",")})`;
}
const colourOf = (i) => data.legend ? PALETTE[data.colours[i] % PALETTE.length] : onScale(data.colours[i]);

function placeOf(i) { // in pixels of the page
    const width = canvas.clientWidth, height = canvas.clientHeight;
    const scale = Math.min((width - 2 * MARGIN) / data.width, (height - 2 * MARGIN) / data.height) || 1;
    return [
        width / 2 + (data.x[i] - data.middle[0]) * scale * view.zoom + view.x,
        height / 2 - (data.y[i] - data.middle[1]) * scale * view.zoom + view.y,
    ];
}
Object.assign(canvas, {placeOf, show: take});

function ring(i, radius, width) {
    const [x, y] = placeOf(i);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = width;
    context.strokeStyle = getComputedStyle(canvas).color;
    context.stroke();
}

function draw() {
    queued = false;
    const density = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = width * density;
    canvas.height = height * density;
    context.scale(density, density);
    const radius = (data.x.length > 1500 ? 2.6 : 4) * Math.min(2, Math.sqrt(view.zoom));
    context.globalAlpha = data.x.length > 1500 ? 0.65 : 0.8;
    for (let i = 0; i < data.x.length; i++) {
        const [x, y] = placeOf(i);
        if (x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
        context.fillStyle = colourOf(i);
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        context.fill();
    }
    context.globalAlpha = 1;
    for (const i of data.near || []) ring(i, radius + 3, 1.5);
    if (data.chosen >= 0) ring(data.chosen, radius + 5, 3);
    if (under >= 0) ring(under, radius + 2, 2);
}
function redraw() {
    if (!queued) { queued = true; requestAnimationFrame(draw); }
}

function nearest(event) {
    const box = canvas.getBoundingClientRect();
    const px = event.clientX - box.left, py = event.clientY - box.top;
    let found = -1, best = REACH * REACH;
    for (let i = 0; i < data.x.length; i++) {
        const [x, y] = placeOf(i), distance = (x - px) ** 2 + (y - py) ** 2;
        if (distance < best) { best = distance; found = i; }
    }
    return found;
}

function show(event) {
    under = nearest(event);
    tip.hidden = under < 0;
    canvas.style.cursor = under < 0 ? "grab" : "pointer";
    if (under >= 0) {
        tip.textContent = data.texts[under]; // never as markup
        const value = document.createElement("div");
        value.textContent = data.told[under];
        tip.append(value);
        const [x, y] = placeOf(under), right = x > canvas.clientWidth / 2;
        tip.style.left = right ? "auto" : `${x + 14}px`;
        tip.style.right = right ? `${canvas.clientWidth - x + 14}px` : "auto";
        tip.style.top = `${Math.max(4, y - 20)}px`;
    }
    redraw();
}

function explain() {
    legend.replaceChildren();
    const title = document.createElement("b");
    title.textContent = data.by || "";
    legend.append(title);
    if (data.legend) {
        data.legend.forEach((name, i) => {
            const item = document.createElement("span"), dot = document.createElement("i");
            dot.style.background = PALETTE[i % PALETTE.length];
            item.append(dot, name);
            legend.append(item);
        });
    } else if (data.scale) {
        const bar = document.createElement("i");
        bar.className = "sv-bar";
        bar.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(onScale).join(",")})`;
        legend.append(data.scale[0], bar, data.scale[1]);
    }
}

function take(given) {
    data = given || data;
    const bounds = (values) => values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const [left, right] = bounds(data.x), [low, high] = bounds(data.y);
    Object.assign(data, {width: right - left || 1, height: high - low || 1, middle: [(left + right) / 2, (low + high) / 2]});
    if (data.map !== take.map) view = {zoom: 1, x: 0, y: 0};
    take.map = data.map;
    under = -1;
    tip.hidden = true;
    explain();
    redraw();
}

canvas.addEventListener("pointerdown", (event) => {
    drag = {x: event.clientX, y: event.clientY, view: {...view}, moved: false};
    canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
    if (!drag) return show(event);
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    drag.moved = drag.moved || Math.abs(dx) + Math.abs(dy) > 4;
    if (drag.moved) { view.x = drag.view.x + dx; view.y = drag.view.y + dy; redraw(); }
});
canvas.addEventListener("pointerup", (event) => {
    const clicked = drag && !drag.moved ? nearest(event) : -1;
    drag = null;
    if (clicked < 0) return;
    Object.assign(data, {chosen: clicked, near: []});
    redraw();
    trigger("select", {index: clicked});
});
canvas.addEventListener("pointerleave", () => { under = -1; tip.hidden = true; redraw(); });
canvas.addEventListener("dblclick", () => { view = {zoom: 1, x: 0, y: 0}; redraw(); });
canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect(), factor = Math.exp(-event.deltaY / 400);
    const zoom = Math.min(Math.max(view.zoom * factor, 0.5), 60), by = zoom / view.zoom;
    const px = event.clientX - box.left - canvas.clientWidth / 2, py = event.clientY - box.top - canvas.clientHeight / 2;
    view = {zoom, x: px - (px - view.x) * by, y: py - (py - view.y) * by};
    redraw();
}, {passive: false});
new ResizeObserver(redraw).observe(canvas);
watch("value", () => take(props.value));
watch("near", () => { data.near = props.near || []; redraw(); });
take(props.value);
