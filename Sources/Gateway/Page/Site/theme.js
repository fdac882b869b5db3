// Runs before the first picture, so that the chosen theme does not flash. Not a module: modules come later.
try {
  document.documentElement.dataset.theme = localStorage.getItem("fusionroute.theme") ?? "auto";
} catch {
  // A browser that keeps nothing: the theme is the system's.
}
