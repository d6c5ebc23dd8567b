"""The other two objectives of figure 2: both learn colours that captions name."""

import pytest
import torch

from pipeline.trainer.architectures import Architecture
from pipeline.trainer.objectives import BagOfWords, CaptionPrediction

ARCH = Architecture(32, 32, (1,), 64, 16, 64, 1, 8)
VOCABULARY, START, END = 20, 18, 19
COLOURS = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
CAPTIONS = torch.tensor([[START, 5, 6 + colour, 0, END, 0, 0, 0] for colour in range(4)])


def _seen(pairs, chance):
    """Noisy images of one colour each, and which."""
    colours = torch.randint(4, (pairs,), generator=chance)
    image = COLOURS[colours].view(-1, 3, 1, 1).expand(-1, -1, 32, 32)
    return image + torch.randn(image.shape, generator=chance), colours


@pytest.mark.parametrize("objective", [BagOfWords, CaptionPrediction])
def test_colours_that_captions_name_are_told_on_images_never_seen(objective):
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    model = objective(ARCH, VOCABULARY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        image, colours = _seen(32, chance)
        loss = model(image, CAPTIONS[colours])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    image, colours = _seen(64, chance)
    with torch.no_grad():
        told = model(image, CAPTIONS[colours])
        scores = model.scores(image, CAPTIONS)
    assert told.isfinite()
    assert (scores.argmax(dim=1) == colours).float().mean() > 0.95


@pytest.mark.parametrize("objective", [BagOfWords, CaptionPrediction])
def test_what_stands_behind_the_end_is_no_part_of_a_caption(objective):
    torch.manual_seed(0)
    model = objective(ARCH, VOCABULARY)
    padded = CAPTIONS.clone()
    padded[:, 5:] = 7
    image = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(model(image, padded), model(image, CAPTIONS))
    torch.testing.assert_close(model.scores(image, padded), model.scores(image, CAPTIONS))


def test_a_bag_of_words_does_not_know_their_order_or_number():
    torch.manual_seed(0)
    model, image = BagOfWords(ARCH, VOCABULARY), torch.randn(2, 3, 32, 32)
    texts = torch.tensor([[START, 5, 6, END, 0, 0, 0, 0], [START, 6, 5, 5, 6, END, 0, 0]])
    scores = model.scores(image, texts)
    torch.testing.assert_close(scores[:, 0], scores[:, 1])
    expected = model.words(model.visual(image)).log_softmax(1)[:, [5, 6]].mean(dim=1)
    torch.testing.assert_close(scores[:, 0], expected)


def test_the_chances_of_all_next_words_add_up_to_one():
    torch.manual_seed(0)
    model, image = CaptionPrediction(ARCH, VOCABULARY), torch.randn(1, 3, 32, 32)
    # The end at once, or any other word and then whatever comes.
    ends = torch.tensor([[START, END, 0]])
    begun = torch.tensor([[START, word, END] for word in range(END)])
    first = model._log_chances(model._starts(image).expand(END, -1), begun)[:, 1]
    total = first.exp().sum() + model.scores(image, ends).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_a_predicted_word_depends_on_the_words_before_it_and_on_the_image():
    torch.manual_seed(0)
    model, image = CaptionPrediction(ARCH, VOCABULARY), torch.randn(2, 3, 32, 32)
    text = torch.tensor([[START, 5, 6, END], [START, 7, 6, END]])
    starts = model._starts(image)
    before = model._log_chances(starts[:1].expand(2, -1), text)
    assert before[0, 2] != before[1, 2]
    other = model._log_chances(starts[1:].expand(2, -1), text)
    assert not torch.allclose(before[:, 1:], other[:, 1:])
    # But no word sees itself or what comes behind it.
    later = model._log_chances(starts[:1], torch.tensor([[START, 5, 8, END]]))
    torch.testing.assert_close(later[0, 1], before[0, 1])
