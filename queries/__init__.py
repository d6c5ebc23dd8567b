"""Where the queries come from: CLIP section 2.2, in its order.

dump      Wikipedia XML -> the text of its articles
words     words that occur at least 100 times
bigrams   pairs of words with high pointwise mutual information
pageviews views of titles, by the hour
titles    article names above a search volume
wordnet   synsets
combine   their union, one per normalised form, numbered -> queries
"""
