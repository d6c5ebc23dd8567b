// The audit's page: accept and reject pairs, set thresholds, count, export. Asks for nothing.
"use strict";
(() => {
  const audit = JSON.parse(document.getElementById("audit").textContent);
  const store = `webimagetext audit ${audit.digest} ${audit.taken_digest}`;
  const keyOf = (pairId, source, evalId) => JSON.stringify([pairId, source, evalId]);

  // -- what was decided: Maps, since a set or an image may be called `__proto__` --------------

  const thresholds = new Map();
  const verdicts = new Map();

  function take(told) {
    thresholds.clear();
    verdicts.clear();
    for (const [name, distance] of told.sets) thresholds.set(name, distance);
    for (const [pairId, source, evalId, isSame] of told.pairs) {
      verdicts.set(keyOf(pairId, source, evalId), isSame);
    }
  }

  function told() {
    const pairs = [...verdicts].map(([key, isSame]) => [...JSON.parse(key), isSame]);
    return { sets: [...thresholds], pairs };
  }

  function restore() {
    take(audit.taken);
    try {
      const kept = localStorage.getItem(store);
      if (kept !== null) take(JSON.parse(kept));
    } catch {
      take(audit.taken); // no storage, or not ours: begin anew
    }
  }

  function keep() {
    try {
      localStorage.setItem(store, JSON.stringify(told()));
    } catch {
      // The page works without: decisions then last as long as it is open.
    }
  }

  // -- what follows from it: the same rule as pipeline.decisions ------------------------------

  function verdictOf(set, pair) {
    const [pairId, evalId, , distance, before] = pair;
    const isSame = verdicts.get(keyOf(pairId, set.name, evalId));
    if (isSame !== undefined) return isSame ? "overlap" : "candidate";
    const most = thresholds.get(set.name);
    if (most === undefined || before === "undecidable") return before;
    return distance <= most ? "overlap" : "candidate";
  }

  function overlapping(set) {
    const most = thresholds.get(set.name);
    const found = set.images.map(([now, near]) => (most === undefined ? now : near <= most));
    for (const pair of set.pairs) {
      if (verdictOf(set, pair) === "overlap") found[pair[2]] = true;
    }
    const others = most === undefined ? set.now : set.within[most];
    return others + found.filter(Boolean).length;
  }

  // -- the page -------------------------------------------------------------------------------

  const cards = [...document.querySelectorAll(".pair")];
  const filter = document.getElementById("filter");
  const ofCard = (card) => {
    const set = audit.sets[Number(card.dataset.set)];
    return [set, set.pairs[Number(card.dataset.pair)]];
  };
  const keyOfCard = (card) => {
    const [set, pair] = ofCard(card);
    return keyOf(pair[0], set.name, pair[1]);
  };

  function isShown(verdict, isDecided) {
    if (filter.value === "all") return true;
    if (filter.value === "decided") return isDecided;
    if (filter.value === "open") return !isDecided;
    return verdict === filter.value;
  }

  function drawCard(card) {
    const [set, pair] = ofCard(card);
    const verdict = verdictOf(set, pair);
    const isSame = verdicts.get(keyOfCard(card));
    for (const name of ["overlap", "candidate", "undecidable"]) {
      card.classList.toggle(`is-${name}`, name === verdict);
    }
    const byThreshold = isSame === undefined && verdict !== pair[4];
    const who = isSame !== undefined ? ", by hand" : byThreshold ? ", by threshold" : "";
    card.querySelector(".verdict").textContent = verdict + who;
    card.querySelector(".accept").setAttribute("aria-pressed", String(isSame === true));
    card.querySelector(".reject").setAttribute("aria-pressed", String(isSame === false));
    card.hidden = !isShown(verdict, isSame !== undefined);
  }

  function drawSet(section) {
    const set = audit.sets[Number(section.dataset.set)];
    const most = thresholds.get(set.name);
    const slider = section.querySelector("input[type=range]");
    if (slider === null) return;
    slider.value = String(most === undefined ? audit.threshold : most);
    const count = overlapping(set);
    const size = Number(section.dataset.images);
    const share = size ? ((100 * count) / size).toFixed(2) : "0.00";
    const rule = most === undefined ? "by the cascade" : `PDQ within ${most}`;
    section.querySelector("output").textContent =
      `${rule}: ${count.toLocaleString("en")} images overlap (${share}%)`;
    section.querySelector(".reset").hidden = most === undefined;
  }

  function draw() {
    cards.forEach(drawCard);
    document.querySelectorAll("section[data-set]").forEach(drawSet);
    document.getElementById("count").textContent =
      `decided: pairs ${verdicts.size}, thresholds ${thresholds.size}`;
  }

  function decide(card, isSame) {
    const key = keyOfCard(card);
    // Pressed once more, a button takes its word back.
    if (isSame === undefined || verdicts.get(key) === isSame) verdicts.delete(key);
    else verdicts.set(key, isSame);
    keep();
    draw();
  }

  function move(card, step) {
    const open = cards.filter((other) => other === card || !other.hidden);
    const next = open[open.indexOf(card) + step];
    if (next !== undefined) next.focus();
  }

  function save() {
    const byName = ([a], [b]) => (a < b ? -1 : a > b ? 1 : 0);
    const sets = [...thresholds].sort(byName);
    const pairs = [...verdicts].sort(byName).map(([key, isSame]) => {
      const [pairId, source, evalId] = JSON.parse(key);
      const verdict = isSame ? "accept" : "reject";
      return { pair_id: pairId, source, eval_id: evalId, verdict };
    });
    const file = {
      format: audit.format,
      audit: audit.digest,
      sets: Object.fromEntries(sets.map(([name, most]) => [name, { pdq_distance: most }])),
      pairs,
    };
    const link = document.createElement("a");
    const body = new Blob([JSON.stringify(file, null, 1)], { type: "application/json" });
    link.href = URL.createObjectURL(body);
    link.download = "decisions.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const card of cards) {
    card.querySelector(".accept").addEventListener("click", () => decide(card, true));
    card.querySelector(".reject").addEventListener("click", () => decide(card, false));
  }
  for (const section of document.querySelectorAll("section[data-set]")) {
    const slider = section.querySelector("input[type=range]");
    if (slider === null) continue;
    const { name } = audit.sets[Number(section.dataset.set)];
    slider.addEventListener("input", () => {
      thresholds.set(name, Number(slider.value));
      keep();
      draw();
    });
    section.querySelector(".reset").addEventListener("click", () => {
      thresholds.delete(name);
      keep();
      draw();
    });
  }
  filter.addEventListener("change", draw);
  document.getElementById("export").addEventListener("click", save);
  document.getElementById("forget").addEventListener("click", () => {
    take(audit.taken);
    keep();
    draw();
  });
  document.addEventListener("keydown", (event) => {
    const card = event.target.closest(".pair");
    if (card === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const words = { a: true, r: false, u: undefined };
    const steps = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 };
    if (Object.hasOwn(steps, event.key)) {
      move(card, steps[event.key]);
    } else if (Object.hasOwn(words, event.key)) {
      const isSame = words[event.key];
      // The next one first: this card may be hidden by the filter as soon as it is decided.
      move(card, 1);
      const key = keyOfCard(card);
      if (isSame === undefined || verdicts.get(key) !== isSame) decide(card, isSame);
    } else {
      return;
    }
    event.preventDefault();
  });
  restore();
  draw();
})();
