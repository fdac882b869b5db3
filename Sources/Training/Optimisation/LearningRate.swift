internal import Core
internal import Foundation

/// The learning rate over a run: a linear warm-up, then a decay.
public struct LearningRateSchedule: Sendable, Equatable {
  public enum Decay: String, Sendable, CaseIterable {
    case cosine
    case linear
    case constant
  }

  public static let maximumWarmup = 1_000_000_000

  /// The highest rate, reached at the end of the warm-up.
  public var peak: Float
  public var warmup: Int
  public var decay: Decay
  /// The rate at the end, relative to the peak.
  public var floor: Float

  public init(peak: Float, warmup: Int = 0, decay: Decay = .cosine, floor: Float = 0) {
    self.peak = peak
    self.warmup = warmup
    self.decay = decay
    self.floor = floor
  }

  public func validate() throws {
    guard peak.isFinite, peak > 0 else {
      throw FusionRouteError.usage("the learning rate must be a positive number, not \(peak)")
    }
    guard (0...Self.maximumWarmup).contains(warmup) else {
      throw FusionRouteError.usage("the warm-up must be 0 to \(Self.maximumWarmup) steps, not \(warmup)")
    }
    guard (0...1).contains(floor) else {
      throw FusionRouteError.usage("the final rate must be 0 to 1 of the highest, not \(floor)")
    }
  }

  /// The rate of step `step` (from 0) of `total`.
  public func rate(step: Int, of total: Int) -> Float { peak * factor(step: step, of: total) }

  func factor(step: Int, of total: Int) -> Float {
    if step < warmup { return Float(step + 1) / Float(warmup + 1) }
    let length = max(1, total - warmup)
    let progress = min(1, max(0, Double(step - warmup) / Double(length)))
    let shape: Double =
      switch decay {
      case .constant: 1
      case .linear: 1 - progress
      case .cosine: 0.5 * (1 + cos(.pi * progress))
      }
    return Float(Double(floor) + (1 - Double(floor)) * shape)
  }
}
