// What is hard to see on the page: returns one line for each thing.
(() => {
	const found = [];
	const parse = (text) => {
		const m = text.match(/rgba?\(([^)]+)\)/);
		const [r, g, b, a = 1] = m[1].split(/[ ,/]+/).map(Number);
		return { r, g, b, a };
	};
	const luminance = ({ r, g, b }) => {
		const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * x + 0.7152 * y + 0.0722 * z;
	};
	const background = (element) => {
		for (let e = element; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor);
			if (c.a === 1) return c;
		}
		return { r: 255, g: 255, b: 255 };
	};
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	const seen = new Set();
	while (walker.nextNode()) {
		const element = walker.currentNode.parentElement;
		if (!walker.currentNode.data.trim() || seen.has(element) || element.closest("script, noscript, title, [hidden], .unseen")) continue;
		seen.add(element);
		const style = getComputedStyle(element);
		const ink = parse(element instanceof SVGElement ? style.fill : style.color);
		const [a, b] = [luminance(ink), luminance(background(element))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(2)} of <${element.localName} class="${element.getAttribute("class")}"> ${element.textContent.slice(0, 40)}`);
	}
	if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`);
	for (const e of document.querySelectorAll("a, [tabindex]")) {
		e.focus();
		if (document.activeElement !== e) found.push(`the keyboard does not reach ${e.outerHTML.slice(0, 80)}`);
	}
	document.activeElement?.blur();
	return found;
})()
