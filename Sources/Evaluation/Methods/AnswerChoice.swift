/// Which of several whole answers counts.
public enum AnswerChoice {
  /// Index of the highest reward, of equal ones the lowest; NaN never wins. Nil for none.
  public static func best(_ rewards: [Double]) -> Int? {
    rewards.indices.filter { !rewards[$0].isNaN }.max { rewards[$0] < rewards[$1] || (rewards[$0] == rewards[$1] && $0 > $1) }
  }

  /// The oracle's choice: the first right answer, otherwise the one with the highest score.
  public static func oracle(_ grades: [Grade]) -> Int? {
    grades.firstIndex(where: \.passed) ?? best(grades.map(\.score))
  }
}
