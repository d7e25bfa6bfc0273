"""
What an administrator asks with the official C{openai} package over real sockets.
"""

from __future__ import annotations

import time

import openai

from tests.serving import ServingCase, inThread

KEY = "a-key-for-the-administrator"


class UsageTests(ServingCase):
    """
    The package's call for what completions have cost.
    """

    environment = {"API_KEY": KEY}

    @inThread
    def test_usage(self) -> None:
        """
        Its types, its lists and its pages.
        """
        with openai.OpenAI(
            base_url=self.serving.url, api_key=KEY, admin_api_key=KEY, max_retries=0
        ) as client:
            for model in ("echo", "echo", "script"):
                client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hello there"}]
                )
            usage = client.admin.organization.usage
            now = int(time.time())
            page = usage.completions(start_time=now - 86400, group_by=["model", "project_id"], limit=1)
            self.assertTrue(page.has_more)
            self.assertEqual(len(page.data), 1)
            self.assertIsNotNone(page.next_page)
            page = usage.completions(
                start_time=now - 86400, group_by=["model", "project_id"], page=page.next_page or ""
            )
            self.assertFalse(page.has_more)
            results = [result.model_dump() for result in page.data[-1].results]
            self.assertEqual([each["model"] for each in results], ["echo", "script"])
            self.assertEqual([each["num_model_requests"] for each in results], [2, 1])
            self.assertTrue(all(each["input_tokens"] and each["output_tokens"] for each in results))
            hours = usage.completions(
                start_time=now - 7200, end_time=now + 60, bucket_width="1h", models=["script"]
            )
            results = [result.model_dump() for each in hours.data for result in each.results]
            self.assertEqual([each["num_model_requests"] for each in results], [1])

    @inThread
    def test_refused(self) -> None:
        """
        With a wrong key, and with a parameter that is none.
        """
        with openai.OpenAI(
            base_url=self.serving.url, api_key=KEY, admin_api_key="wrong", max_retries=0
        ) as client:
            usage = client.admin.organization.usage
            self.assertRaises(openai.AuthenticationError, usage.completions, start_time=0)
        with openai.OpenAI(
            base_url=self.serving.url, api_key="wrong", admin_api_key=KEY, max_retries=0
        ) as client:
            usage = client.admin.organization.usage
            error = self.assertRaises(openai.BadRequestError, usage.completions, start_time=5, end_time=5)
            self.assertEqual(error.param, "end_time")
