"use strict";
// Keeps the page up to date: the server sends its main part, and what has changed in it is put in the place of what was
// there. Ages alone are no change, so that nothing that is being read, selected or focused moves without a reason.
(() => {
	const updates = document.getElementById("updates");
	const url = document.body.dataset.events;
	let source, again;

	const key = (node) => node.outerHTML.replace(/(<time[^>]*>)[^<]*/g, "$1");


	function show(text) {
		const main = new DOMParser().parseFromString(text, "text/html").querySelector("main");
		if (!main) return;
		document.title = main.dataset.title;
		for (const next of [...main.children]) {
			const now = document.getElementById(next.id);
			if (!now) continue;
			if (key(now) === key(next)) {
				const ages = next.querySelectorAll("time");
				now.querySelectorAll("time").forEach((t, i) => { t.textContent = ages[i].textContent; });
				continue;
			}
			const focused = now.contains(document.activeElement) ? document.activeElement : null;
			const name = focused && (focused.id || focused.getAttribute("aria-label"));
			now.replaceWith(next);
			if (name) (document.getElementById(name) || next.querySelector(`[aria-label="${CSS.escape(name)}"]`))?.focus({ preventScroll: true });
		}
		live(true);
	}

	function live(yes) {
		const text = yes ? "Updated as it happens. " : "Not connected: what is shown is old. ";
		if (updates.textContent !== text) updates.textContent = text;
		document.body.dataset.live = yes;
	}

	function watch() {
		stop();
		source = new EventSource(url);
		source.onmessage = (event) => show(event.data);
		source.onerror = () => {
			live(false);
			if (source.readyState === EventSource.CLOSED) again = setTimeout(watch, 5000); // refused: it does not try again itself
		};
	}

	function stop() {
		clearTimeout(again);
		if (source) source.close();
	}

	// Nobody looks: nothing is asked for.
	document.addEventListener("visibilitychange", () => document.hidden ? stop() : watch());
	if (!document.hidden) watch();
})();
