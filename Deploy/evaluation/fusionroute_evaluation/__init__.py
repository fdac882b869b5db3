"""Tasks with exact graders for FusionRoute: generators, graders, and a sandbox for generated code."""
