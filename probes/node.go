package probes

import (
	"golang.org/x/net/html"
)

// The page is built as a tree and written by html.Render, which escapes every text and every attribute: what a child says
// of itself can be nothing else than text. (html/template would do the same, but it calls methods by name, and so keeps the
// linker from leaving out any: the binary would grow by 2.2 MB, beyond 10 MiB.)

// attr is an attribute of an element.
type attr struct{ name, value string }

// el makes an element of attributes, texts, nodes and lists of nodes; nil nodes are left out.
func el(tag string, parts ...any) *html.Node {
	n := &html.Node{Type: html.ElementNode, Data: tag}
	for _, part := range parts {
		switch p := part.(type) {
		case attr:
			n.Attr = append(n.Attr, html.Attribute{Key: p.name, Val: p.value})
		case []attr:
			for _, a := range p {
				n.Attr = append(n.Attr, html.Attribute{Key: a.name, Val: a.value})
			}
		case string:
			n.AppendChild(&html.Node{Type: html.TextNode, Data: p})
		case *html.Node:
			if p != nil {
				n.AppendChild(p)
			}
		case []*html.Node:
			for _, child := range p {
				if child != nil {
					n.AppendChild(child)
				}
			}
		}
	}
	return n
}

func class(names string) attr { return attr{"class", names} }
func id(name string) attr     { return attr{"id", name} }

// row makes cells of one kind, td or th, with the first one as the row's heading.
func tableRow(cells ...any) *html.Node {
	tr := el("tr")
	for i, c := range cells {
		if i == 0 {
			tr.AppendChild(el("th", attr{"scope", "row"}, c))
			continue
		}
		tr.AppendChild(el("td", c))
	}
	return tr
}

// table makes one that can be scrolled by itself, with the keyboard too, where the window is too narrow for it.
func table(caption string, heads []string, rows []*html.Node) *html.Node {
	head := el("tr")
	for _, h := range heads {
		head.AppendChild(el("th", attr{"scope", "col"}, h))
	}
	return el("div", class("scroll"), attr{"role", "region"}, attr{"aria-label", caption}, attr{"tabindex", "0"},
		el("table", el("caption", class("unseen"), caption), el("thead", head), el("tbody", rows)))
}
