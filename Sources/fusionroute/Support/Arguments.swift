// Values of other modules as option values; conformances of public types are public, and so are these imports.
public import ArgumentParser
public import Coordinator
public import Evaluation
public import Launch
public import ModelFiles
public import Training

extension ClusterFile.KVType: ExpressibleByArgument {}
extension FanoutPolicy: ExpressibleByArgument {}
extension WarmPolicy: ExpressibleByArgument {}
extension ModelRecipe.Architecture: ExpressibleByArgument {}
extension ModelRecipe.VocabularyKind: ExpressibleByArgument {}
extension EngineOptions.Precision: ExpressibleByArgument {}
extension EngineOptions.Library: ExpressibleByArgument {}
extension LearningRateSchedule.Decay: ExpressibleByArgument {}
extension RoutingAggregation: ExpressibleByArgument {}
extension Benchmark: ExpressibleByArgument {}
extension Benchmark.Frame: ExpressibleByArgument {}
