// The theme wraps wide tables so that they scroll; a keyboard must reach them.
document$.subscribe(() => setTimeout(() => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap")) wrap.tabIndex = 0
}))
