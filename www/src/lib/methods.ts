// One sentence a method, for people who choose one. The engine's catalogue says which exist; a method without a sentence here
// is shown with its title and citation alone.

const SENTENCES: Record<string, string> = {
  ava_p: 'Learns from preference pairs a Gaussian over every token\u2019s reward, tied to the model\u2019s own next-token probabilities.',
  ava_d: 'Learns every token\u2019s reward from good answers alone, by asking which rewards would make them the sensible choice.',
  avril: 'The method AVA grew from: rewards from demonstrations by approximate variational inference, one Q-network beside one reward posterior.',
  bradley_terry: 'The usual reward model: one score an answer, read at the last token. A baseline, and the token map shows what it was never asked to learn.',
  bradley_terry_sum: 'The same likelihood on the sum of token rewards: the baseline that every other token map has to beat.',
  preference_probit: 'Compares sums of token rewards and counts every token\u2019s spread in the comparison (probit).',
  preference_logistic: 'The same with a logistic likelihood, averaged over the spread.',
  prefix_preference: 'Asks the preference of every pair of beginnings too, so that credit goes to the first token that settles it.',
  red: 'A reward model whose token rewards are the differences between the scores of one prefix and the next.',
  secrets2: 'A reward model with remedies for doubtful labels: flipped, smoothed, with margins, or with a contrastive term.',
  pref_transformer: 'A sequence\u2019s score is a weighted sum of token rewards, with weights from attention.',
  dpo: 'Trains the language model on pairs directly; a token\u2019s reward is how much more likely it has become.',
  irl_margin: 'Looks for a reward under which the good text beats the bad one by as much as possible.',
  fine_grained: 'Uses the edits that turn a worse answer into a better one as labels for single tokens.',
}

export const sentence = (method: string) => SENTENCES[method] ?? ''
