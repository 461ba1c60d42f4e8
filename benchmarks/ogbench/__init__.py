"""OGBench's offline point mazes: data made by its recipe, our agent learned from it, its tasks."""
