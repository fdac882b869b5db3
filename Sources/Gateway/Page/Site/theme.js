// Runs before the first picture, so that the chosen theme does not flash. Not a module: modules come later.
document.documentElement.dataset.theme = localStorage.getItem("fusionroute.theme") ?? "auto";
